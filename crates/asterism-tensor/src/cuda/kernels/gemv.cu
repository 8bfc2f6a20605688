// Products of few rows, y [rows, outputs] = x [rows, inputs] w^T with w [outputs, inputs], all or a
// part of a larger matrix: bound by reading w, once. Tensor cores take 8 rows for the price of one,
// and the threads are left with little more to do than loading. There is an instance for up to 8
// rows and one for 16; what comes out for a row is the same, to the last bit, in both and beside
// any other rows.
//
// * A block computes a tile of 16 rows of w after the other. Its warps divide the inputs, 64 each
//   in turn: together they read whole stretches of the rows. At a tile's end their sums meet in
//   shared memory, while the next tile's weights are on their way.
// * In a product m16n8k16, w is the matrix of 16 rows and x^T that of 8 columns. A lane loads 16
//   bytes of a row, 8 consecutive inputs, and uses them in two products. Which of the 16 inputs of
//   a product these are called by does not matter, as long as w and x agree: no fragment is
//   shuffled.
// * On Hopper the first weights are loaded while the kernel before may still run: that one writes
//   x, never w.
//
// Macros: WARPS (at least 8), RESIDENT (blocks a multiprocessor is to hold; of 16 rows, one).
// 16 and 2 do well on an H100 and an H200: with twice the loads on their way the H200's memory
// gives less.
// Grid: at most one block per tile, and no more than run at once; blocks of WARPS * 32 threads.
// Where rows do not start at multiples of 16 bytes, elements are loaded one by one: by the instance
// for 8 rows only.

// As the program lays it out. Kernels read it where it lies: copies do not fit in the registers.
struct Sizes {
    int rows, inputs, outputs;
    // Elements from a row of x, w and y to the next: no fewer than inputs, inputs and outputs.
    int x_stride, w_stride, y_stride;
    // Rows of w from an output of the gate to that of up.
    int up;
};

constexpr int ROWS = 8;    // of x in a fragment, used or not; an instance has FRAGMENTS of them
constexpr int HEIGHT = 16; // rows of w in a fragment
constexpr int STEP = 64;   // inputs of a warp at a time: 128 bytes of a row
constexpr int STRIDE = WARPS * STEP;

// What the warps of a block found, of two tiles in turn.
template <int FRAGMENTS>
struct Sums {
    static_assert(FRAGMENTS * ROWS * HEIGHT <= WARPS * 32, "a thread for each sum of a tile");
    float of[2][WARPS][FRAGMENTS * ROWS][HEIGHT];
};

// Lets the kernel behind start loading, where it was launched to.
__device__ __forceinline__ void release_next() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Waits until what the kernel before wrote is there; at once if this one was launched after it.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// 8 elements of a row from `k` on, zeros behind its end. Weights pass by the first cache.
template <bool ALIGNED, bool WEIGHTS>
__device__ __forceinline__ uint4 load_8(const bf16* row, int k, int inputs) {
    uint4 x = make_uint4(0, 0, 0, 0);
    if constexpr (ALIGNED) {
        if (k < inputs) {
            if constexpr (WEIGHTS) {
                asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                             : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                             : "l"(row + k));
            } else {
                x = *(const uint4*)(row + k);
            }
        }
    } else {
        u32 pairs[4] = {};
#pragma unroll
        for (int i = 0; i < 8; i++) {
            if (k + i < inputs) pairs[i / 2] |= (u32)row[k + i] << (i % 2 * 16);
        }
        x = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
    return x;
}

// c [16, 8] += a [16, 16] b [16, 8]. Of c a lane holds columns (lane % 4) * 2 and the next, in row
// lane / 4 (c[0], c[1]) and row lane / 4 + 8 (c[2], c[3]).
__device__ __forceinline__ void multiply(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0,
                                         u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// `end` gets the sum of each row of x and output. With GATED, w holds two matrices [outputs,
// inputs], `up` rows apart; a tile is 8 rows of each, and `end` gets the sums of both.
template <bool GATED, bool ALIGNED, int FRAGMENTS, typename End>
__device__ __forceinline__ void product(const bf16* x, const bf16* w, const Sizes& sizes, End end,
                                        Sums<FRAGMENTS>& sums) {
    constexpr int OUTPUTS = GATED ? HEIGHT / 2 : HEIGHT; // of a tile
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int group = lane / 4, column = warp * STEP + lane % 4 * 8;
    const int tiles = (sizes.outputs + OUTPUTS - 1) / OUTPUTS;

    // Rows of the tile whose weights are loaded next. Those behind the last are not used: any do.
    const bf16 *low, *high;
    auto seek = [&](int tile) {
        int output = tile * OUTPUTS + group;
        i64 low_row = min(output, sizes.outputs - 1);
        i64 high_row = GATED ? sizes.up + low_row : min(output + 8, sizes.outputs - 1);
        low = w + low_row * sizes.w_stride;
        high = w + high_row * sizes.w_stride;
    };
    uint4 weights[2][2]; // [half of the inputs, half of the rows], on their way
    auto load_weights = [&](int k) {
#pragma unroll
        for (int part = 0; part < 2; part++) {
            weights[part][0] = load_8<ALIGNED, true>(low, k + part * 32 + column, sizes.inputs);
            weights[part][1] = load_8<ALIGNED, true>(high, k + part * 32 + column, sizes.inputs);
        }
    };

    release_next();
    int tile = blockIdx.x;
    seek(tile);
    load_weights(0);
    wait_for_previous();

    const bf16* x_row = x + (i64)group * sizes.x_stride; // of the first fragment
    for (int turn = 0; tile < tiles; turn ^= 1) {
        float c[FRAGMENTS][4] = {};
        int next = tile + gridDim.x;
#pragma unroll (FRAGMENTS == 1 ? 4 : 1)
        for (int k = 0; k < sizes.inputs; k += STRIDE) {
#pragma unroll
            for (int f = 0; f < FRAGMENTS; f++) {
                const bf16* row = x_row + (i64)f * ROWS * sizes.x_stride;
                // Zeros in rows that there are not.
                const int there = f * ROWS + group < sizes.rows ? sizes.inputs : 0;
                uint4 b[2];
#pragma unroll
                for (int part = 0; part < 2; part++) {
                    b[part] = load_8<ALIGNED, false>(row, k + part * 32 + column, there);
                }
#pragma unroll
                for (int part = 0; part < 2; part++) {
                    const uint4 l = weights[part][0], h = weights[part][1];
                    multiply(c[f], l.x, h.x, l.y, h.y, b[part].x, b[part].y);
                    multiply(c[f], l.z, h.z, l.w, h.w, b[part].z, b[part].w);
                }
            }
            // Behind the end of a tile comes the next; nothing is loaded behind the last.
            bool last = k + STRIDE >= sizes.inputs && next < tiles;
            if (last) seek(next);
            load_weights(last ? 0 : k + STRIDE);
        }
#pragma unroll
        for (int f = 0; f < FRAGMENTS; f++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int row = f * ROWS + lane % 4 * 2 + i % 2;
                sums.of[turn][warp][row][group + i / 2 * 8] = c[f][i];
            }
        }
        // These sums are overwritten after the barrier of the next tile, when all have been read.
        __syncthreads();
        int row = threadIdx.x / OUTPUTS, output = tile * OUTPUTS + threadIdx.x % OUTPUTS;
        if (row < sizes.rows && output < sizes.outputs) {
            float sum[HEIGHT / OUTPUTS] = {};
#pragma unroll
            for (int from = 0; from < WARPS; from++) {
#pragma unroll
                for (int i = 0; i < HEIGHT / OUTPUTS; i++) {
                    sum[i] += sums.of[turn][from][row][threadIdx.x % OUTPUTS + i * OUTPUTS];
                }
            }
            end(row, output, sum);
        }
        tile = next;
    }
}

template <bool GATED, int FRAGMENTS, typename End>
__device__ __forceinline__ void any_product(const bf16* x, const bf16* w, const Sizes& sizes,
                                            End end) {
    __shared__ Sums<FRAGMENTS> sums;
    if constexpr (FRAGMENTS > 1) {
        return product<GATED, true, FRAGMENTS>(x, w, sizes, end, sums);
    }
    bool aligned = (sizes.inputs | sizes.x_stride | sizes.w_stride) % 8 == 0 &&
                   ((i64)x | (i64)w) % 16 == 0;
    aligned ? product<GATED, true, FRAGMENTS>(x, w, sizes, end, sums)
            : product<GATED, false, FRAGMENTS>(x, w, sizes, end, sums);
}

// y = x w^T + bias, rounded to bf16; a null bias [outputs] is none.
template <int FRAGMENTS>
__device__ __forceinline__ void rounded(const bf16* x, const bf16* w, const float* bias, bf16* y,
                                        const Sizes& sizes) {
    auto end = [&](int row, int output, float (&sum)[1]) {
        y[(i64)row * sizes.y_stride + output] = narrow(sum[0] + (bias ? bias[output] : 0.0f));
    };
    any_product<false, FRAGMENTS>(x, w, sizes, end);
}

// y = x w^T + bias in f32; a null bias [outputs] is none.
template <int FRAGMENTS>
__device__ __forceinline__ void stored(const bf16* x, const bf16* w, const float* bias, float* y,
                                       const Sizes& sizes) {
    auto end = [&](int row, int output, float (&sum)[1]) {
        y[(i64)row * sizes.y_stride + output] = sum[0] + (bias ? bias[output] : 0.0f);
    };
    any_product<false, FRAGMENTS>(x, w, sizes, end);
}

// y += x w^T + bias in f32; a null bias [outputs] is none.
template <int FRAGMENTS>
__device__ __forceinline__ void added(const bf16* x, const bf16* w, const float* bias, float* y,
                                      const Sizes& sizes) {
    auto end = [&](int row, int output, float (&sum)[1]) {
        y[(i64)row * sizes.y_stride + output] += sum[0] + (bias ? bias[output] : 0.0f);
    };
    any_product<false, FRAGMENTS>(x, w, sizes, end);
}

// y = silu(gate) * up, rounded to bf16. The bias, if not null, is that of the gate and, `up`
// elements behind it, that of up.
template <int FRAGMENTS>
__device__ __forceinline__ void gated(const bf16* x, const bf16* w, const float* bias, bf16* y,
                                      const Sizes& sizes) {
    auto end = [&](int row, int output, float (&sum)[2]) {
        float gate = sum[0] + (bias ? bias[output] : 0.0f);
        float up = sum[1] + (bias ? bias[sizes.up + output] : 0.0f);
        y[(i64)row * sizes.y_stride + output] = narrow(gate / (1.0f + __expf(-gate)) * up);
    };
    any_product<true, FRAGMENTS>(x, w, sizes, end);
}

// The kernels for up to MOST rows.
#define KERNELS(MOST, AT_ONCE)                                                                  \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, AT_ONCE)                           \
        gemv_bf16_##MOST(const bf16* x, const bf16* w, const float* bias, bf16* y,              \
                         const __grid_constant__ Sizes sizes) {                                 \
        rounded<MOST / ROWS>(x, w, bias, y, sizes);                                             \
    }                                                                                           \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, AT_ONCE)                           \
        gemv_f32_##MOST(const bf16* x, const bf16* w, const float* bias, float* y,              \
                        const __grid_constant__ Sizes sizes) {                                  \
        stored<MOST / ROWS>(x, w, bias, y, sizes);                                              \
    }                                                                                           \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, AT_ONCE)                           \
        gemv_add_##MOST(const bf16* x, const bf16* w, const float* bias, float* y,              \
                        const __grid_constant__ Sizes sizes) {                                  \
        added<MOST / ROWS>(x, w, bias, y, sizes);                                               \
    }                                                                                           \
    extern "C" __global__ void __launch_bounds__(WARPS * 32, AT_ONCE)                           \
        gemv_gated_##MOST(const bf16* x, const bf16* w, const float* bias, bf16* y,             \
                          const __grid_constant__ Sizes sizes) {                                \
        gated<MOST / ROWS>(x, w, bias, y, sizes);                                               \
    }

KERNELS(8, RESIDENT)
KERNELS(16, 1)
