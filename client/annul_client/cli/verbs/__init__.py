"""One file for each verb of the command line; its click command is called `command`."""
