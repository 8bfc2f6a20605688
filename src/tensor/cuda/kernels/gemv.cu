// Products of few rows (1 to 8), y [rows, outputs] = x [rows, inputs] w^T with w [outputs, inputs]:
// bound by reading w, once. Tensor cores take 8 rows for the price of one, and the threads are left
// with little more to do than loading.
//
// * A block computes 16 outputs of all rows. Its warps divide the inputs, 64 each in turn: together
//   they read whole stretches of 16 rows of w. At the end their sums meet in shared memory.
// * In a product m16n8k16, w is the matrix of 16 rows and x^T that of 8 columns. A lane loads 16
//   bytes of a row, 8 consecutive inputs, and uses them in two products. Which of the 16 inputs of a
//   product these are called by does not matter, as long as w and x agree: no fragment is shuffled.
// * On Hopper the first weights are loaded while the kernel before may still run: that one writes x,
//   never w.
//
// Grid: outputs / 16, rounded up; blocks of up to 16 warps. Where rows do not start at multiples of
// 16 bytes, elements are loaded one by one.

constexpr int OUTPUTS = 16;  // of a block, and of a fragment
constexpr int ROWS = 8;      // of a fragment, used or not
constexpr int STEP = 64;     // inputs of a warp at a time: 128 bytes of a row
constexpr int MOST_WARPS = 16;

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

// 8 elements of a row from `k` on, zeros behind its end. Weights pass by the caches.
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

// A lane's part of `STEPS` steps of a warp: of each tile, rows lane / 4 and the one 8 below.
template <int TILES, int STEPS>
struct Weights {
    uint4 part[STEPS][TILES][2][2]; // [..., half of the rows, half of the inputs]
};

// TILES matrices w [outputs, inputs] that lie one behind the other share x. `end` gets the sums of
// a row and an output, one per tile.
template <int TILES, bool ALIGNED, typename End>
__device__ __forceinline__ void product(const bf16* x, const bf16* w, int rows, int inputs,
                                        int outputs, End end,
                                        float (&sums)[MOST_WARPS][TILES][ROWS][OUTPUTS]) {
    constexpr int STEPS = ALIGNED ? 2 : 1;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int first = blockIdx.x * OUTPUTS, group = lane / 4, column = lane % 4 * 8;

    const bf16* w_rows[TILES][2];
#pragma unroll
    for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Rows behind the last are not stored: any will do.
            int output = min(first + half * 8 + group, outputs - 1);
            w_rows[t][half] = w + ((i64)t * outputs + output) * inputs;
        }
    }
    Weights<TILES, STEPS> weights;
    auto load_weights = [&](int k) {
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
#pragma unroll
            for (int i = 0; i < TILES * 4; i++) {
                int t = i / 4, half = i / 2 % 2, part = i % 2;
                weights.part[s][t][half][part] = load_8<ALIGNED, true>(
                    w_rows[t][half], k + s * warps * STEP + part * 32 + column, inputs);
            }
        }
    };

    release_next();
    int k = warp * STEP;
    load_weights(k);
    wait_for_previous();

    // Columns of x^T behind the last row are zeros.
    const bf16* x_row = x + (i64)min(group, rows - 1) * inputs;
    const int x_inputs = group < rows ? inputs : 0;
    float c[TILES][4] = {};
    while (k < inputs) {
        uint4 b[STEPS][2];
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
#pragma unroll
            for (int part = 0; part < 2; part++) {
                b[s][part] = load_8<ALIGNED, false>(
                    x_row, k + s * warps * STEP + part * 32 + column, x_inputs);
            }
        }
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
#pragma unroll
            for (int t = 0; t < TILES; t++) {
#pragma unroll
                for (int part = 0; part < 2; part++) {
                    uint4 low = weights.part[s][t][0][part], high = weights.part[s][t][1][part];
                    uint4 column = b[s][part];
                    multiply(c[t], low.x, high.x, low.y, high.y, column.x, column.y);
                    multiply(c[t], low.z, high.z, low.w, high.w, column.z, column.w);
                }
            }
        }
        k += STEPS * warps * STEP;
        load_weights(k);
    }

#pragma unroll
    for (int t = 0; t < TILES; t++) {
#pragma unroll
        for (int i = 0; i < 4; i++) sums[warp][t][lane % 4 * 2 + i % 2][group + i / 2 * 8] = c[t][i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * OUTPUTS; i += blockDim.x) {
        int row = i / OUTPUTS, output = i % OUTPUTS;
        if (first + output >= outputs) continue;
        float sum[TILES] = {};
        for (int from = 0; from < warps; from++) {
#pragma unroll
            for (int t = 0; t < TILES; t++) sum[t] += sums[from][t][row][output];
        }
        end(row, first + output, sum);
    }
}

template <int TILES, typename End>
__device__ __forceinline__ void any_product(const bf16* x, const bf16* w, int rows, int inputs,
                                            int outputs, End end) {
    __shared__ float sums[MOST_WARPS][TILES][ROWS][OUTPUTS];
    bool aligned = inputs % 8 == 0 && ((i64)x | (i64)w) % 16 == 0;
    aligned ? product<TILES, true>(x, w, rows, inputs, outputs, end, sums)
            : product<TILES, false>(x, w, rows, inputs, outputs, end, sums);
}

// y = x w^T + bias, rounded to bf16; a null bias [outputs] is none.
extern "C" __global__ void __launch_bounds__(MOST_WARPS * 32)
    gemv_bf16(const bf16* x, const bf16* w, const float* bias, bf16* y, int rows, int inputs,
              int outputs) {
    any_product<1>(x, w, rows, inputs, outputs, [&](int row, int output, float (&sum)[1]) {
        y[(i64)row * outputs + output] = narrow(sum[0] + (bias ? bias[output] : 0.0f));
    });
}

// y = x w^T in f32.
extern "C" __global__ void __launch_bounds__(MOST_WARPS * 32)
    gemv_f32(const bf16* x, const bf16* w, float* y, int rows, int inputs, int outputs) {
    any_product<1>(x, w, rows, inputs, outputs, [&](int row, int output, float (&sum)[1]) {
        y[(i64)row * outputs + output] = sum[0];
    });
}

// y += x w^T + bias in f32; a null bias [outputs] is none.
extern "C" __global__ void __launch_bounds__(MOST_WARPS * 32)
    gemv_add(const bf16* x, const bf16* w, const float* bias, float* y, int rows, int inputs,
             int outputs) {
    any_product<1>(x, w, rows, inputs, outputs, [&](int row, int output, float (&sum)[1]) {
        y[(i64)row * outputs + output] += sum[0] + (bias ? bias[output] : 0.0f);
    });
}

// y = silu(gate) * up, rounded to bf16. The weights [2 * outputs, inputs] and the bias [2 *
// outputs], if not null, are those of the gate and behind them those of up.
extern "C" __global__ void __launch_bounds__(MOST_WARPS * 32)
    gemv_gated(const bf16* x, const bf16* w, const float* bias, bf16* y, int rows, int inputs,
               int outputs) {
    any_product<2>(x, w, rows, inputs, outputs, [&](int row, int output, float (&sum)[2]) {
        float gate = sum[0] + (bias ? bias[output] : 0.0f);
        float up = sum[1] + (bias ? bias[outputs + output] : 0.0f);
        y[(i64)row * outputs + output] = narrow(gate / (1.0f + __expf(-gate)) * up);
    });
}
