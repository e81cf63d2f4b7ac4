"""BLAKE2b without the rest of `hashlib`, which loads OpenSSL: 3.5 MiB in the daemon, and in each light zygote again."""

try:
    from _blake2 import blake2b
except ImportError:  # a Python that is built otherwise
    from hashlib import blake2b

__all__ = ["blake2b"]
