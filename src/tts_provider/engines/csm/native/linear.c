#include "linear.h"

#include "products.h"

static size_t tile_bytes(Linear layer) {
    size_t block = LANES * sizeof(float) + (size_t)layer.block * layer.bits * LANES / 8;
    return block * (layer.inputs / layer.block);
}

size_t tiles_bytes(Linear layer) { return tile_bytes(layer) * whole_tiles(layer.outputs); }

/* A tile times a number of rows, which the compiler knows: so all sums stay in registers. */
INLINE void multiply_exactly(
    const uint8_t *tile, Linear layer, const int bits, Rounded in, int row, const int rows,
    Floats *out, int distance
) {
    const int inputs = layer.inputs, block = layer.block, blocks = inputs / block;
    const int8_t *codes = in.codes + (size_t)row * inputs;
    const float *scales = in.scales + (size_t)row * blocks;
    const int32_t *offsets = in.offsets + (size_t)row * blocks;
    Floats sums[ROWS];
    EACH_ROW for (int r = 0; r < rows; r++) sums[r] = floats(0);
    for (int b = 0; b < blocks; b++, codes += block * rows) {
        const Floats weight_scales = load((const float *)tile);
        Ints found[ROWS];
        tile = sum_block(
            tile + sizeof weight_scales, block, bits, codes, rows, offsets + b, blocks, found
        );
        EACH_ROW for (int r = 0; r < rows; r++)
            sums[r] += to_floats(found[r]) * (weight_scales * floats(scales[r * blocks + b]));
    }
    EACH_ROW for (int r = 0; r < rows; r++) out[(size_t)r * distance] = sums[r];
}

/* As many tiles, with ROWS rows or fewer. */
INLINE void multiply_rows(
    const uint8_t *tile, size_t bytes, int count, Linear layer, const int bits, Rounded in, int row,
    int rows, Floats *out, int distance
) {
    for (; count > 0; count--, tile += bytes, out++) switch (rows) {
        case 1: multiply_exactly(tile, layer, bits, in, row, 1, out, distance); break;
        case 2: multiply_exactly(tile, layer, bits, in, row, 2, out, distance); break;
        case 3: multiply_exactly(tile, layer, bits, in, row, 3, out, distance); break;
        case 4: multiply_exactly(tile, layer, bits, in, row, 4, out, distance); break;
#if defined(__AVX512F__)
        case 5: multiply_exactly(tile, layer, bits, in, row, 5, out, distance); break;
        case 6: multiply_exactly(tile, layer, bits, in, row, 6, out, distance); break;
        case 7: multiply_exactly(tile, layer, bits, in, row, 7, out, distance); break;
        case 8: multiply_exactly(tile, layer, bits, in, row, 8, out, distance); break;
#endif
        default: __builtin_unreachable();
        }
}

void multiply_tiles(
    Linear layer, int from, int count, Rounded in, int rows, Floats *out, int distance
) {
    const size_t bytes = tile_bytes(layer);
    const uint8_t *tile = layer.tiles + from * bytes;
    /* Few tiles stay in the cache for the next rows. */
    for (int row = 0; row < rows; row += ROWS, out += ROWS * (size_t)distance) {
        const int together = rows - row < ROWS ? rows - row : ROWS;
        if (layer.bits == 4)
            multiply_rows(tile, bytes, count, layer, 4, in, row, together, out, distance);
        else multiply_rows(tile, bytes, count, layer, 8, in, row, together, out, distance);
    }
}

void round_part(Linear layer, const float *x, int count, Rounded to, int row, int rows, int from) {
    const int first = row / ROWS * ROWS, together = rows - first < ROWS ? rows - first : ROWS;
    int8_t *fours = to.codes + (size_t)first * layer.inputs + 4 * (row - first) + from * together;
    const int block = layer.block, blocks = layer.inputs / block, middle = 1 << (layer.bits - 1);
    for (int b = from / block; b < (from + count) / block; b++, x += block) {
        /* Magnitudes are compared by their bits, where infinity and NaN are the largest: then the
           scale is not finite, nor is any output, whatever the codes are. */
        Ints largest_of = ints(0);
        for (int k = 0; k < block; k += LANES)
            largest_of = __builtin_elementwise_max(largest_of, (Ints)load(x + k) & 0x7fffffff);
        int32_t bits = 0;
        for (int i = 0; i < LANES; i++) bits = largest_of[i] > bits ? largest_of[i] : bits;
        float largest;
        memcpy(&largest, &bits, sizeof largest);

        typedef int8_t Codes __attribute__((vector_size(LANES)));
        if (largest < 0x1p-100f) largest = 0; /* its inverse would not be finite */
        const Floats inverse = floats(largest > 0 ? 127 / largest : 0);
        Ints total_of = ints(0);
        for (int k = 0; k < block; k += LANES) {
            Ints rounded = to_nearest(load(x + k) * inverse);
            Codes codes = __builtin_convertvector(rounded, Codes);
            for (int i = 0; i < LANES; i += 4, fours += 4 * together)
                memcpy(fours, (const int8_t *)&codes + i, 4);
            total_of += rounded;
        }
        uint32_t total = 0; /* of inputs that are not finite it is nonsense, but may be computed */
        for (int i = 0; i < LANES; i++) total += (uint32_t)total_of[i];
        to.scales[(size_t)row * blocks + b] = largest / 127;
        to.offsets[(size_t)row * blocks + b] = (int32_t)(-(uint32_t)middle * total);
    }
}

static int half(const uint8_t *codes, int input) {
    return codes[input / 2] >> (4 * (input % 2)) & 15;
}

/* An output's codes of one block → its four bytes of each group. */
static void pack_block(Linear layer, const uint8_t *codes, uint8_t *to) {
    if (layer.bits == 8)
        for (int k = 0; k < layer.block; k += 4, to += GROUP) memcpy(to, codes + k, 4);
    else
        for (int k = 0; k < layer.block; k += 8, to += GROUP)
            for (int i = 0; i < 4; i++)
                to[i] = (uint8_t)(half(codes, k + i) | half(codes, k + 4 + i) << 4);
}

void pack_tiles(Linear layer, const uint8_t *codes, const float *scales, uint8_t *tiles) {
    const int blocks = layer.inputs / layer.block, row_bytes = layer.block * layer.bits / 8;
    memset(tiles, 0, tiles_bytes(layer));
    for (int tile = 0; tile < whole_tiles(layer.outputs); tile++)
        for (int b = 0; b < blocks; b++, tiles += LANES * (sizeof(float) + row_bytes))
            for (int lane = 0; lane < LANES && tile * LANES + lane < layer.outputs; lane++) {
                const size_t at = (size_t)(tile * LANES + lane) * blocks + b;
                memcpy(tiles + lane * sizeof(float), scales + at, sizeof(float));
                pack_block(layer, codes + at * row_bytes, tiles + LANES * sizeof(float) + 4 * lane);
            }
}
