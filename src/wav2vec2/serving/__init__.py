"""A model as a service, by the protocols that others' clients already speak. Read `application.py` first.

What a client sends reaches one of two threads: `file_worker.py` transcribes whole recordings, one group after another,
from a queue with a bound. Everything else happens in one event loop and waits for it there. A protocol is a file.
"""
