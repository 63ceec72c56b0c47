"""Experiments and the demo: data, baselines, controls, deployment here. May import all but platform_api."""
