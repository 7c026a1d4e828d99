// What is used of ggml-cpu, as declared in its ggml-cpu-impl.h, ggml.h, ggml-cpu.h, tiled.h and sgemm.h by the pinned
// llama-cpp-python and stable-diffusion-cpp-python, and a product as it asks for one.
#pragma once
#include <cpuid.h>
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

struct ggml_threadpool;
struct ggml_compute_params { int ith, nth; size_t wsize; void *wdata; ggml_threadpool *threadpool; bool use_ref; };
struct ggml_tensor {  // as far as it is read here
    int type;
    void *buffer;
    int64_t ne[4];
    size_t nb[4];
    int op, op_params[16], flags;
    ggml_tensor *src[10], *view_src;
    size_t view_offs;
    void *data;
};
typedef void (*vec_dot)(int n, float *sum, size_t, const void *row, size_t, const void *token, size_t, int one);
typedef void (*from_float)(const float *from, void *to, int64_t n);
struct ggml_type_traits_cpu { from_float encode; vec_dot dot; int vec_dot_type; int64_t nrows; };
struct ggml_base_traits {
    const char *name;
    int64_t block, interleaved;
    size_t type_size;
    bool is_quantized;
    void (*to_float)(const void *from, float *to, int64_t n);
};
enum Type { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q4_0 = 2, TYPE_Q5_0 = 6, TYPE_Q8_0 = 8, TYPE_Q2_K = 10, TYPE_Q3_K = 11, TYPE_Q4_K = 12, TYPE_Q5_K = 13, TYPE_Q6_K = 14, TYPE_Q8_K = 15, TYPE_IQ4_NL = 20, TYPE_IQ4_XS = 23, TYPE_BF16 = 30, TYPE_MXFP4 = 39 };

// Functions of one library.
struct Library {
    bool (*sgemm)(const ggml_compute_params *, int64_t m, int64_t n, int64_t k, const void *A, int64_t lda, const void *B,
                  int64_t ldb, void *C, int64_t ldc, int Atype, int Btype, int Ctype);
    bool (*tiled)(const ggml_compute_params *, ggml_tensor *);
    bool (*experts)(const ggml_compute_params *, ggml_tensor *, int64_t expert, int64_t n, const int32_t *rows, char *scratch);
    void (*mul_mat)(const ggml_compute_params *, ggml_tensor *);
    void (*im2col)(const ggml_compute_params *, ggml_tensor *);
    void (*attention)(const ggml_compute_params *, ggml_tensor *);
    void (*barrier)(ggml_threadpool *);
    void (*set_chunk)(ggml_threadpool *, int);
    int (*next_chunk)(ggml_threadpool *, int);
    const ggml_type_traits_cpu *(*traits)(int type);
    const ggml_base_traits *(*base_traits)(int type);
};
namespace { Library ggml; }  // each source serves another one

// How the threads of a product share its jobs: by the library's counter, which the product sets first (COUNT) or which is
// set already (COUNTED); or each takes every nth, and waits for nobody (FIXED).
enum class Share { COUNT, COUNTED, FIXED };

// Where one token is, and where its results go.
struct Route { const void *token; float *results; };

// m rows of weights A (k blocks each, lda blocks apart) times n tokens B (ldb blocks apart): C[token * ldc + row]. With
// routes, tokens and results are where these say. All threads of a product share it; params has the thread's number.
struct Product {
    const Library *library;
    const ggml_compute_params *params;
    int64_t m, n, k;
    const void *A;
    int64_t lda;
    const void *B;
    int64_t ldb;
    float *C;
    int64_t ldc;
    Share share;
    const Route *routes;

    template <class Token> const Token *token(int64_t t) const { return routes ? (const Token *) routes[t].token : (const Token *) B + t * ldb; }
    float *results(int64_t t) const { return routes ? routes[t].results : C + t * ldc; }
    void begin() const {
        if (share == Share::COUNT && params->ith == 0) library->set_chunk(params->threadpool, params->nth);
    }
    void meet() const {
        if (share == Share::COUNT) library->barrier(params->threadpool);
    }
    int64_t next(int64_t job) const { return share == Share::FIXED ? job + params->nth : library->next_chunk(params->threadpool, 1); }
};

typedef bool (*Multiply)(const Product &);

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

// Whether the processor has what this is compiled for.
static inline bool suited() {
    unsigned a, b, c, d;  // not every compiler can be asked for F16C by name
    const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
#ifdef __AVX512VNNI__
    return has && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
    return has;
#endif
}

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
