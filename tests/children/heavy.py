"""What light jobs do not pay for."""

import tempfile

tempfile.gettempdir()  # it keeps what it found
