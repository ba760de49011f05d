"""The built-in verifiers; `envfarm` finds them by entry point, like anybody's."""
