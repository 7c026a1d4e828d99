"""All ctypes: thin modules over the native libraries, zero policy. Input that would kill the process is refused."""

from engine.native.environment import prepare_environment

# Here, because whatever module of this package is imported first may load numpy.
prepare_environment()
