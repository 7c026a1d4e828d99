// llama.cpp's matrix products of quantised weights with tokens, and of halves with many, and its attention, for x86
// processors with AVX2, and for those with AVX-512 and VNNI.
//
// Its ggml-cpu asks two functions of its own for every matrix product before it does it row by row, and a third one for each
// expert; attention is one function. All are led here, by the slots through which it calls them (slots.h); what is not done
// here goes on to the function that was meant. All threads of an operation call them, with the same arguments but the
// thread's number.
#include <atomic>

#include "attention.h"
#include "formats.h"
#include "panels.h"
#include "slots.h"

// So many tokens pay for bringing rows of floats side by side.
constexpr int FLOAT_TOKENS = 48;

static std::atomic<long long> products, attentions;

// Whether ggml-cpu sets the counter of jobs for the product that it asks about: it does so for the first plane of a
// tensor, after it has brought the tokens into the type that the weights are multiplied with.
static thread_local bool counts;

static bool multiply(const Product &p, int weights, int tokens) {
    if (const Format *format = format_of(weights)) {
        if (tokens != format->tokens || (p.n == 1 && p.share == Share::COUNT)) return false;
        return format->multiply(p);
    }
    if (tokens == TYPE_F32 && p.n >= FLOAT_TOKENS && p.k % 8 == 0) switch (weights) {  // before they become halves
            case TYPE_F16: return by_panels<Floats<Half>>(p);
            case TYPE_BF16: return by_panels<Floats<Bfloat>>(p);
        }
    return false;
}

static bool counted(const Product &p, int weights, int tokens) {
    if (!multiply(p, weights, tokens)) return false;
    if (p.params->ith == 0) products.fetch_add(1, std::memory_order_relaxed);
    return true;
}

// In place of llamafile_sgemm: A are weights of type Atype, B tokens in the type that ggml-cpu multiplies these with.
static bool sgemm(const ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda, const void *B,
                  int64_t ldb, void *C, int64_t ldc, int Atype, int Btype, int Ctype) {
    const Share share = counts && Btype != TYPE_F32 ? Share::COUNTED : Share::COUNT;
    const Product product = {&ggml, params, m, n, k, A, lda, B, ldb, (float *) C, ldc, share, nullptr};
    if (Ctype == TYPE_F32 && counted(product, Atype, Btype)) return true;
    return ggml.sgemm(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype);
}

// In place of ggml_compute_forward_mul_mat_tiled, which is asked first: what is done above must get through to there.
static bool tiled(const ggml_compute_params *params, ggml_tensor *dst) {
    const ggml_tensor *tokens = dst->src[1];
    counts = dst->ne[2] * dst->ne[3] == 1 && tokens->type == TYPE_F32;
    if (format_of(dst->src[0]->type) && (tokens->ne[1] >= 2 || counts)) return false;
    return ggml.tiled(params, dst);
}

// In place of ggml_compute_forward_mul_mat_id_tiled: one expert times the n tokens that were sent to it, each a pair of
// numbers: which of its token's experts this is, and the token's own.
static bool experts(const ggml_compute_params *params, ggml_tensor *dst, int64_t expert, int64_t n, const int32_t *rows, char *scratch) {
    static thread_local Buffer<Route> buffer;
    const ggml_tensor *weights = dst->src[0], *tokens = dst->src[1];
    const Format *format = format_of(weights->type);
    if (format && tokens->type == TYPE_F32 && weights->nb[1] % format->size == 0) {
        const int64_t k = weights->ne[0] / format->columns;
        Route *routes = buffer.get(n);
        for (int64_t i = 0; i < n; i++) {
            const int64_t slot = rows[2 * i], token = rows[2 * i + 1];
            routes[i].token = (const char *) params->wdata + (slot % tokens->ne[1] + token * tokens->ne[1]) * k * format->token_size;
            routes[i].results = (float *) ((char *) dst->data + slot * dst->nb[1] + token * dst->nb[2]);
        }
        const void *A = (const char *) weights->data + expert * weights->nb[2];
        const Product product = {&ggml, params, weights->ne[1], n, k, A, (int64_t) (weights->nb[1] / format->size), nullptr, 0, nullptr, 0, Share::FIXED, routes};
        if (counted(product, weights->type, format->tokens)) return true;
    }
    return ggml.experts(params, dst, expert, n, rows, scratch);
}

static void attention(const ggml_compute_params *params, ggml_tensor *dst) {
    if (!attended(params, dst)) return ggml.attention(params, dst);
    if (params->ith == 0) attentions.fetch_add(1, std::memory_order_relaxed);
}

extern "C" {

// Do the products of the ggml-cpu that these functions belong to. Returns whether it will ask here: not if the processor
// lacks AVX2, nor if it calls its functions in another way than by name.
bool llamabox_kernels_attach(void *sgemm_there, void *tiled_there, void *experts_there, void *attention_there,
                             void *barrier, void *set_chunk, void *next_chunk, void *traits, void *base_traits) {
    if (!suited()) return false;
    ggml.sgemm = (decltype(ggml.sgemm)) sgemm_there;
    ggml.tiled = (decltype(ggml.tiled)) tiled_there;
    ggml.experts = (decltype(ggml.experts)) experts_there;
    ggml.attention = (decltype(ggml.attention)) attention_there;
    ggml.barrier = (decltype(ggml.barrier)) barrier;
    ggml.set_chunk = (decltype(ggml.set_chunk)) set_chunk;
    ggml.next_chunk = (decltype(ggml.next_chunk)) next_chunk;
    ggml.traits = (decltype(ggml.traits)) traits;
    ggml.base_traits = (decltype(ggml.base_traits)) base_traits;
    return lead_all(sgemm_there, {
        {"llamafile_sgemm", (void *) sgemm, sgemm_there},
        {"ggml_compute_forward_mul_mat_tiled", (void *) tiled, tiled_there},
        {"ggml_compute_forward_mul_mat_id_tiled", (void *) experts, experts_there},
        {"ggml_compute_forward_flash_attn_ext", (void *) attention, attention_there},
    });
}

// How many attentions, and products, were done here, by all threads together.
long long llamabox_kernels_attentions() { return attentions.load(std::memory_order_relaxed); }
long long llamabox_kernels_products() { return products.load(std::memory_order_relaxed); }
}
