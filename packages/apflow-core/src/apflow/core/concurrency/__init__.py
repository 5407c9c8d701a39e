"""Building blocks for asyncio and threads.

Semaphores, thread pool, supervision, and containment of code that raises unusual exceptions.
"""
