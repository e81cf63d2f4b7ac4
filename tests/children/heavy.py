"""What light jobs do not pay for."""
