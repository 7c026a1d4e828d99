"""All ctypes: thin modules over the native libraries, zero policy. Every input that would kill the process is refused."""
