"""stable-diffusion.cpp: thin modules over the library, zero policy."""
