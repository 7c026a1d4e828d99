// Matrix products of quantised weights with two or more tokens, and of halves with many, for x86 processors with AVX2.
//
// ggml-cpu asks two functions of its own for every matrix product before it does it row by row. Both are led here, by the
// slots through which it calls them (slots.h); what is not done here goes on to the function that was meant. All threads
// of a product call them, with the same arguments but the thread's number. The declarations are those of ggml-cpu-impl.h,
// ggml.h, tiled.h and sgemm.h as of the pinned llama-cpp-python.
#include <atomic>

#include "floats.h"
#include "slots.h"
#include "tiles.h"

struct ggml_threadpool;
struct ggml_compute_params { int ith, nth; size_t wsize; void *wdata; ggml_threadpool *threadpool; bool use_ref; };
struct ggml_tensor {  // as far as it is read here
    int type;
    void *buffer;
    int64_t ne[4];
    size_t nb[4];
    int op, op_params[16], flags;
    ggml_tensor *src[10];
};
enum Type { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q4_0 = 2, TYPE_Q5_0 = 6, TYPE_Q8_0 = 8, TYPE_Q4_K = 12, TYPE_Q5_K = 13, TYPE_Q6_K = 14, TYPE_Q8_K = 15, TYPE_BF16 = 30 };

static struct {
    bool (*sgemm)(const ggml_compute_params *, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda, const void *B,
                  int64_t ldb, void *C, int64_t ldc, int Atype, int Btype, int Ctype);
    bool (*tiled)(const ggml_compute_params *, ggml_tensor *);
    void (*barrier)(ggml_threadpool *);
    void (*set_chunk)(ggml_threadpool *, int);
    int (*next_chunk)(ggml_threadpool *, int);
} ggml;
static std::atomic<long long> products;

template <class T> struct Buffer {  // of a thread; grows, is never filled
    T *memory = nullptr;
    size_t size = 0;
    ~Buffer() { _mm_free(memory); }
    T *get(size_t n) {
        if (n > size) {
            _mm_free(memory);
            memory = (T *) _mm_malloc(n * sizeof(T), 64);
            size = n;
        }
        return memory;
    }
};

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// So many tokens pay for bringing rows of floats side by side.
constexpr int FLOAT_TOKENS = 48;

// One tile: up to N tokens times a panel.
template <class F, int N> struct Tile {
    static inline void multiply(int count, const typename F::Panel *p, int64_t k, const typename F::activation *const *tokens,
                                const Column *c, __m256 *out) {
        if (count == N) F::template multiply<N>(p, k, tokens, c, out);
        else Tile<F, N - 1>::multiply(count, p, k, tokens, c, out);
    }
};
template <class F> struct Tile<F, 0> {
    static inline void multiply(int, const typename F::Panel *, int64_t, const typename F::activation *const *, const Column *, __m256 *) {}
};

// m rows of weights A (k blocks each, lda blocks apart), n tokens B (ldb blocks apart); C[token * ldc + row].
template <class F>
static void multiply(const ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const typename F::block *A, int64_t lda,
                     const typename F::activation *B, int64_t ldb, float *C, int64_t ldc) {
    typedef typename F::block Block;
    typedef typename F::Panel Panel;
    static thread_local Buffer<Panel> panel_buffer;
    static thread_local Buffer<Column> column_buffer;
    static thread_local Buffer<Block> rest_buffer;
    const int64_t panels = (m + F::rows - 1) / F::rows, groups = (n + F::tokens - 1) / F::tokens, size = (n + groups - 1) / groups;
    int64_t per = panels / (params->nth * 4);  // panels of a job: so many that tokens are read seldom and no thread waits long
    per = per < 1 ? 1 : least(per, 4);
    const int64_t jobs = (panels + per - 1) / per;
    const size_t stride = lda * sizeof(Block);
    if (params->ith == 0) ggml.set_chunk(params->threadpool, params->nth);
    Panel *panel = panel_buffer.get(per * k);
    Column *columns = F::columns ? column_buffer.get(groups * k) : nullptr;
    const typename F::activation *tokens[F::tokens];
    if constexpr (F::columns) {
        for (int64_t g = 0; g < groups; g++) {
            const int count = (int) least(n - size * g, size);
            for (int64_t b = 0; b < k; b++) {
                for (int t = 0; t < count; t++) tokens[t] = B + (size * g + t) * ldb + b;
                F::column(tokens, count, columns[g * k + b]);
            }
        }
    }
    ggml.barrier(params->threadpool);
    for (int64_t job = params->ith; job < jobs; job = ggml.next_chunk(params->threadpool, 1)) {
        const int64_t first = job * per, last = least(first + per, panels);
        for (int64_t q = first; q < last; q++) {
            const Block *rows = A + q * F::rows * lda;
            size_t apart = stride;
            const int64_t count = least(m - q * F::rows, F::rows);
            if (count < F::rows) {  // the last rows, and zeros
                Block *rest = rest_buffer.get(F::rows * k);
                memset((void *) rest, 0, F::rows * k * sizeof(Block));
                for (int64_t i = 0; i < count; i++) memcpy((void *) (rest + i * k), rows + i * lda, k * sizeof(Block));
                rows = rest;
                apart = k * sizeof(Block);
            }
            F::unpack(rows, apart, k, panel + (q - first) * k);
        }
        for (int64_t g = 0; g < groups; g++) {
            const int count = (int) least(n - size * g, size);
            for (int t = 0; t < count; t++) tokens[t] = B + (size * g + t) * ldb;
            for (int64_t q = first; q < last; q++) {
                __m256 out[F::tokens * F::rows / 8] = {};
                Tile<F, F::tokens>::multiply(count, panel + (q - first) * k, k, tokens, columns + (F::columns ? g * k : 0), out);
                const int64_t row = q * F::rows, there = least(m - row, F::rows);
                for (int t = 0; t < count; t++) {
                    float *to = C + (size * g + t) * ldc + row;
                    const __m256 *from = out + t * (F::rows / 8);
                    if (there == F::rows) {
                        for (int i = 0; i < F::rows / 8; i++) _mm256_storeu_ps(to + 8 * i, from[i]);
                    } else {
                        memcpy(to, from, there * sizeof(float));
                    }
                }
            }
        }
    }
    ggml.barrier(params->threadpool);
}

static bool handled(int type) {
    return type == TYPE_Q4_0 || type == TYPE_Q5_0 || type == TYPE_Q8_0 || type == TYPE_Q4_K || type == TYPE_Q5_K || type == TYPE_Q6_K;
}

// In place of llamafile_sgemm: A are weights of type Atype, B tokens in the type that ggml-cpu multiplies these with.
static bool sgemm(const ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda, const void *B,
                  int64_t ldb, void *C, int64_t ldc, int Atype, int Btype, int Ctype) {
#define PRODUCT(TYPE, F)                                                                                                       \
    case TYPE:                                                                                                                 \
        if (params->ith == 0) products.fetch_add(1, std::memory_order_relaxed);                                                \
        multiply<F>(params, m, n, k, (const F::block *) A, lda, (const F::activation *) B, ldb, (float *) C, ldc);             \
        return true;
    typedef WithMinima<Q4_K, 8> Four;
    typedef WithMinima<Q5_K, 4> Five;
    if (n >= 2 && Ctype == TYPE_F32 && Btype == TYPE_Q8_0) switch (Atype) {
            PRODUCT(TYPE_Q4_0, Simple<Q4_0>)
            PRODUCT(TYPE_Q5_0, Simple<Q5_0>)
            PRODUCT(TYPE_Q8_0, Simple<Q8_0>)
        }
    if (n >= 2 && Ctype == TYPE_F32 && Btype == TYPE_Q8_K) switch (Atype) {
            PRODUCT(TYPE_Q4_K, Four)
            PRODUCT(TYPE_Q5_K, Five)
            PRODUCT(TYPE_Q6_K, Six)
        }
    if (n >= FLOAT_TOKENS && Ctype == TYPE_F32 && Btype == TYPE_F32 && k % 8 == 0) switch (Atype) {  // before they become halves
            PRODUCT(TYPE_F16, Floats<from_half>)
            PRODUCT(TYPE_BF16, Floats<from_bfloat>)
        }
#undef PRODUCT
    return ggml.sgemm(params, m, n, k, A, lda, B, ldb, C, ldc, Atype, Btype, Ctype);
}

// In place of ggml_compute_forward_mul_mat_tiled, which is asked first: what is done above must get through to there.
static bool tiled(const ggml_compute_params *params, ggml_tensor *dst) {
    if (handled(dst->src[0]->type) && dst->src[1]->ne[1] >= 2) return false;
    return ggml.tiled(params, dst);
}

extern "C" {

// Do the products of the ggml-cpu that these functions belong to. Returns whether it will ask here: not if the processor
// lacks AVX2, nor if it calls its functions in another way than by name.
bool llamabox_kernels_attach(void *sgemm_there, void *tiled_there, void *barrier, void *set_chunk, void *next_chunk) {
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c")) return false;
    const link_map *library = library_of(sgemm_there);
    if (!library) return false;
    ggml.sgemm = (decltype(ggml.sgemm)) sgemm_there;
    ggml.tiled = (decltype(ggml.tiled)) tiled_there;
    ggml.barrier = (decltype(ggml.barrier)) barrier;
    ggml.set_chunk = (decltype(ggml.set_chunk)) set_chunk;
    ggml.next_chunk = (decltype(ggml.next_chunk)) next_chunk;
    if (!lead(library, "llamafile_sgemm", (void *) sgemm)) return false;
    if (lead(library, "ggml_compute_forward_mul_mat_tiled", (void *) tiled)) return true;
    lead(library, "llamafile_sgemm", sgemm_there);
    return false;
}

// How many products were done here, by all threads together.
long long llamabox_kernels_products() { return products.load(std::memory_order_relaxed); }
}
