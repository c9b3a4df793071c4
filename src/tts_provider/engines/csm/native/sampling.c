#include "sampling.h"

#include <stdbool.h>

#include "vectors.h"

/* Two float32 that differ are further apart than any noise, and still finite, divided by this. */
static const double COLDEST = 1e-250;

static double from_bits(uint64_t bits) {
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ln x of a normal positive number, the same on every processor: x = 2^n · m with m around 1, and
   ln m = 2 artanh((m - 1) / (m + 1)). */
static double natural_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int n = (int)(bits >> 52) - 1023;
    double m = from_bits((bits & 0xfffffffffffff) | 0x3ff0000000000000);
    if (m > 1.4142135623730951) m /= 2, n++;
    const double s = (m - 1) / (m + 1), square = s * s;
    double series = 0;
    for (int k = 23; k > 1; k -= 2) series = (series + 1.0 / k) * square;
    return n * 0.6931471805599453 + (2 * s + 2 * s * series);
}

static double gumbel(const Sampling *sampling, int book, int code) {
    const uint64_t number = ((uint64_t)sampling->frame << 32) + ((uint64_t)book << 16) +
                            (uint64_t)code;
    uint64_t z = sampling->key + (number + 1) * 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return -natural_log(-natural_log((double)((z >> 40) | 1) * 0x1p-24));
}

/* Integers in the order of the numbers; 0 and -0 are the same. */
static Ints keys_of(Floats x) {
    const Ints bits = (Ints)(x + floats(0));
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

static int count_from(const int32_t *keys, int count, int32_t least) {
    Ints found = ints(0);
    for (int i = 0; i < count; i += LANES) {
        Ints some;
        memcpy(&some, keys + i, sizeof some);
        found -= some >= ints(least); /* of a comparison true is -1 */
    }
    int total = 0;
    for (int i = 0; i < LANES; i++) total += found[i];
    return total;
}

/* A key that `wanted` keys are not below; more only where some are equal to it. */
static int32_t find_least(const int32_t *keys, int count, int wanted) {
    int64_t low = INT32_MIN, high = INT32_MAX; /* at least as many from `low` on */
    while (low < high) {
        const int64_t middle = low + (high - low + 1) / 2;
        const int found = count_from(keys, count, (int32_t)middle);
        if (found == wanted) return (int32_t)middle;
        if (found > wanted) low = middle;
        else high = middle - 1;
    }
    return (int32_t)low;
}

int32_t
draw_code(const Sampling *sampling, int book, const float *logits, int count, int32_t *keys) {
    const double temperature = book ? sampling->depth_temperature : sampling->temperature;
    const int top_k = book ? sampling->depth_top_k : sampling->top_k;
    const int whole = (count + LANES - 1) / LANES * LANES;
    float best = -__builtin_inff();
    int32_t first = NO_CODE;
    for (int i = 0; i < whole; i += LANES) {
        float some[LANES];
        for (int j = 0; j < LANES; j++) {
            some[j] = i + j < count ? logits[i + j] : -__builtin_inff();
            if (!(some[j] < __builtin_inff())) return NO_CODE; /* NaN too */
            if (some[j] > best) best = some[j], first = i + j;
        }
        const Ints found = keys_of(load(some));
        memcpy(keys + i, &found, sizeof found);
    }
    for (int i = count; i < whole; i++) keys[i] = INT32_MIN; /* below -inf: never counted */
    if (first == NO_CODE || temperature == 0) return first;

    const int wanted = top_k < count ? top_k : count;
    const int32_t least = find_least(keys, whole, wanted);
    int surplus = count_from(keys, whole, least) - wanted, chosen = first;
    double highest = -__builtin_inf();
    const double divisor = temperature > COLDEST ? temperature : COLDEST;
    /* Of those equal to the last the smaller codes count, so the surplus is counted from the end. */
    int end = count;
    for (; surplus > 0; end--) surplus -= keys[end - 1] == least;
    for (int code = 0; code < count; code++) {
        if (keys[code] < least || (code >= end && keys[code] == least)) continue;
        const double score = ((double)logits[code] - (double)best) / divisor +
                             gumbel(sampling, book, code);
        if (score > highest) highest = score, chosen = code;
    }
    return chosen;
}
