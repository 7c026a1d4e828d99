"""Matrix products and attention of our own on processors, compiled at installation (``build``), put to use by ``load``.

With AVX2, llama.cpp's own products of quantised weights with several tokens cost almost as much a token as those with
one. These cost about half of that, and with AVX-512 and VNNI a third of what llama.cpp's cost there: batches of
streams, prompts and the verification of drafts gain. The sources are written for both kinds of processor; what differs
is in ``wide.h``. Where a few tokens, as of some streams, meet each weight once, to bring weights into a panel costs
as much as to multiply them: it is left out, and they are multiplied as they are unpacked (``tiles.h``). One token alone
is bound by how fast weights come from memory (``rows.h`` and the files that include it): what gains there is long
stretches for each thread, and few instructions for each weight.

llama.cpp's attention of few tokens goes head by head and token by token: each makes floats of every cell anew, and half
of its time goes into numbers of 16 bits. Here heads and tokens that see the same cells are computed together
(``attention.h``): long contexts and several streams over one prompt gain most.

stable-diffusion.cpp has a ggml of its own, built without any fast product: there those of floats and halves, which
convolutions are made of, gain as much (``images.cpp``), and so does what makes an image into their rows (``unfold.h``).
"""
