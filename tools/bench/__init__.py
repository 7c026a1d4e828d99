"""Side-by-side measurements of llama-box and llama-server. Linux only: it reads /proc."""
