"""Asking a model: one streamed Chat Completions request to OpenAI's or any compatible server.

ask.py     the request, its retries and its answer
schema.py  Structs to the strict JSON schema that is sent, and the answer back to Structs
errors.py  what the SDK's errors mean for a job
preload.py makes the SDK ready before a job is forked
"""
