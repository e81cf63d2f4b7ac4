"""The menagerie: jobs that behave, and jobs that do not."""
