"""What is removed or closed because its time is over, in the background and from the command line."""
