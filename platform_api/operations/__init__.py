"""What whoever runs the service does from the command line; routes import nothing of it."""
