// llama.cpp's matrix products of quantised weights with tokens, and of halves with many, for x86 processors with AVX2.
//
// Its ggml-cpu asks two functions of its own for every matrix product before it does it row by row. Both are led here, by the
// slots through which it calls them (slots.h); what is not done here goes on to the function that was meant. All threads
// of a product call them, with the same arguments but the thread's number.
#include <atomic>

#include "floats.h"
#include "panels.h"
#include "rows.h"
#include "slots.h"

// So many tokens pay for bringing rows of floats side by side.
constexpr int FLOAT_TOKENS = 48;

static std::atomic<long long> products;

// Whether ggml-cpu sets the counter of jobs for the product that it asks about: it does so for the first plane of a
// tensor, after it has brought the tokens into the type that the weights are multiplied with.
static thread_local bool counts;

static bool multiply(const Product &p, int weights, int tokens) {
    const bool one = p.n == 1;
    if (one && !p.counted) return false;
    if (tokens == TYPE_Q8_0) switch (weights) {
            case TYPE_Q4_0: return one ? by_rows<Q4_0>(p) : by_panels<Simple<Q4_0>>(p);
            case TYPE_Q5_0: return one ? by_rows<Q5_0>(p) : by_panels<Simple<Q5_0>>(p);
            case TYPE_Q8_0: return one ? by_rows<Q8_0>(p) : by_panels<Simple<Q8_0>>(p);
        }
    if (tokens == TYPE_Q8_K) switch (weights) {
            case TYPE_Q4_K: return one ? by_rows<block_q4_k>(p, weights, 256) : by_panels<WithMinima<Q4_K, 8>>(p);
            case TYPE_Q5_K: return one ? by_rows<block_q5_k>(p, weights, 256) : by_panels<WithMinima<Q5_K, 4>>(p);
            case TYPE_Q6_K: return one ? by_rows<block_q6_k>(p, weights, 256) : by_panels<Six>(p);
        }
    if (tokens == TYPE_F32 && p.n >= FLOAT_TOKENS && p.k % 8 == 0) switch (weights) {  // before they become halves
            case TYPE_F16: return by_panels<Floats<Half>>(p);
            case TYPE_BF16: return by_panels<Floats<Bfloat>>(p);
        }
    return false;
}

// In place of llamafile_sgemm: A are weights of type Atype, B tokens in the type that ggml-cpu multiplies these with.
static bool sgemm(const ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda, const void *B,
                  int64_t ldb, void *C, int64_t ldc, int Atype, int Btype, int Ctype) {
    const Product product = {params, m, n, k, A, lda, B, ldb, (float *) C, ldc, counts && Btype != TYPE_F32};
    if (Ctype == TYPE_F32 && multiply(product, Atype, Btype)) {
        if (params->ith == 0) products.fetch_add(1, std::memory_order_relaxed);
        return true;
    }
    return ggml.sgemm(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype);
}

// In place of ggml_compute_forward_mul_mat_tiled, which is asked first: what is done above must get through to there.
static bool tiled(const ggml_compute_params *params, ggml_tensor *dst) {
    const ggml_tensor *tokens = dst->src[1];
    counts = dst->ne[2] * dst->ne[3] == 1 && tokens->type == TYPE_F32;
    if (quantised(dst->src[0]->type) && (tokens->ne[1] >= 2 || counts)) return false;
    return ggml.tiled(params, dst);
}

extern "C" {

// Do the products of the ggml-cpu that these functions belong to. Returns whether it will ask here: not if the processor
// lacks AVX2, nor if it calls its functions in another way than by name.
bool llamabox_kernels_attach(void *sgemm_there, void *tiled_there, void *barrier, void *set_chunk, void *next_chunk, void *traits) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c")) return false;
    const link_map *library = library_of(sgemm_there);
    if (!library) return false;
    ggml.sgemm = (decltype(ggml.sgemm)) sgemm_there;
    ggml.tiled = (decltype(ggml.tiled)) tiled_there;
    ggml.barrier = (decltype(ggml.barrier)) barrier;
    ggml.set_chunk = (decltype(ggml.set_chunk)) set_chunk;
    ggml.next_chunk = (decltype(ggml.next_chunk)) next_chunk;
    ggml.traits = (decltype(ggml.traits)) traits;
    if (!lead(library, "llamafile_sgemm", (void *) sgemm)) return false;
    if (lead(library, "ggml_compute_forward_mul_mat_tiled", (void *) tiled)) return true;
    lead(library, "llamafile_sgemm", sgemm_there);
    return false;
}

// How many products were done here, by all threads together.
long long llamabox_kernels_products() { return products.load(std::memory_order_relaxed); }
}
