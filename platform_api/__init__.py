"""The shop and the model registry, one folder a feature. May import `shared` and no other part of the project."""
