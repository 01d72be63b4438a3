"""The compiled part of `rowstats`: what happens to the two rows of one position.

All of it stands in one file, because numba's cache sees changes of one file only. LLVM vectorizes none of
libm's exp, log and a maximum as numba writes it, hence the polynomials (in Estrin's form, whose chains are
short) and the intrinsics. Blocks keep the work near the processor and the rounding error of sums small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.extending import intrinsic

_BLOCK = 2048
_SCAN = 256  # a block that may hold one of the top-k is searched one by one
_HUGE = 1e100  # squares of anything beyond overflow; no logit is
_CLOSE = 2.0  # nats; where the interpolant of `log_cosh_half` ends


def _extremum(name: str) -> Callable[[Any, Any], Any]:
    def typed(typing_context: Any, first: Any, second: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = arguments[0].type
            called = builder.module.declare_intrinsic(name, (kind,), ir.FunctionType(kind, (kind, kind)))
            return builder.call(called, arguments, fastmath=("nnan", "nsz"))

        return first(first, first), generate

    return intrinsic(typed)


_larger, _smaller = _extremum("llvm.maxnum"), _extremum("llvm.minnum")
_compiled = njit(nogil=True, cache=True, error_model="numpy")
_exact = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
# No "nnan" and no "ninf" here: a sum has to come out NaN or infinite when a logit is.
_summed = njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


@_exact
def exponential(x: float) -> float:
    """exp(x) for x <= 0, within 1 ulp; below -690 it stays at exp(-690), which no sum notices.

    x = n ln 2 + r, |r| <= ln(2)/2 (Cody and Waite), exp(r) = 1 + r + r^2 P(r), P the Chebyshev
    interpolant of degree 9 (error 1.3e-17), then n into the exponent bits. Adding 1.5 * 2^52 rounds.
    """
    x = _larger(x, -690.0)
    magic = x * 1.4426950408889634 + 6755399441055744.0
    n = magic - 6755399441055744.0
    r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10
    r2 = r * r
    r4 = r2 * r2
    low = (0.5 + 0.16666666666666669 * r) + (0.04166666666662413 + 0.008333333333330062 * r) * r2
    mid = (0.0013888888917213717 + 0.00019841269863053618 * r) + (2.4801521295954376e-05 + 2.7557268459997064e-06 * r) * r2
    high = 2.7620088445409746e-07 + 2.510038549551032e-08 * r
    y = 1.0 + (r + r2 * (low + r4 * (mid + r4 * high)))
    bits = np.float64(y).view(np.int64) + (np.float64(magic).view(np.int64) << np.int64(52))
    return np.int64(bits).view(np.float64)


@_exact
def arctanh(s: float) -> float:
    """artanh(s) for 0 <= s <= 1/3: s Q(s^2), Q the Chebyshev interpolant of degree 9 (error 5e-17)."""
    z = s * s
    z2 = z * z
    z4 = z2 * z2
    low = (1.0 + 0.33333333333341286 * z) + (0.199999999976438 + 0.1428571455582858 * z) * z2
    mid = (0.11111095430673142 + 0.09091429900236955 * z) + (0.07681838124445817 + 0.06795652742789947 * z) * z2
    high = 0.04940394524382393 + 0.08890381913056651 * z
    return s * (low + z4 * (mid + z4 * high))


@_exact
def log_cosh_half(square: float) -> float:
    """log cosh(u / 2) from u^2 <= 4: u^2 R(u^2), R the Chebyshev interpolant of degree 11 (relative error 2e-14)."""
    v2 = square * square
    v4 = v2 * v2
    low = (0.12499999999999749 - 0.005208333333152274 * square) + (
        0.00034722222005051964 - 2.6351676249771102e-05 * square
    ) * v2
    mid = (2.1356670425441215e-06 - 1.802861641081169e-07 * square) + (
        1.5625923002558896e-08 - 1.3667317192580268e-09 * square
    ) * v2
    high = (1.1572320922343888e-10 - 8.624607786675756e-12 * square) + (
        4.745315499081976e-13 - 1.358887711699159e-14 * square
    ) * v2
    return square * (low + v4 * (mid + v4 * high))


@_compiled
def widen(bits: Any, is_bfloat16: bool, out: Any) -> None:
    """float32 bits `out` [N] (uint32) of the float16 or bfloat16 `bits` [N] (uint16), exact for every pattern of them.

    What float16 calls subnormal is the integer of its bits times 2^-24: put behind a leading 1, which is taken off again.
    """
    if is_bfloat16:
        for i in range(bits.size):
            out[i] = np.uint32(bits[i]) << np.uint32(16)
        return
    least = np.uint32(113 << 23)
    for i in range(bits.size):
        size = np.uint32(np.uint32(bits[i]) & np.uint32(0x7FFF)) << np.uint32(13)
        normal = np.uint32(size + np.uint32(112 << 23))
        small = np.float32(np.uint32(size + least).view(np.float32) - np.float32(6.103515625e-05)).view(np.uint32)
        finite = small if size < np.uint32(1 << 23) else normal
        whole = np.uint32(size | np.uint32(0x7F800000)) if size >= np.uint32(31 << 23) else finite
        out[i] = whole | (np.uint32(np.uint32(bits[i]) & np.uint32(0x8000)) << np.uint32(16))


@_summed
def _sums(r: Any, t: Any) -> Any:
    sum_r, sum_t, max_r, max_t, low, high = 0.0, 0.0, -np.inf, -np.inf, np.inf, -np.inf
    for i in range(r.size):
        a, b = np.float64(r[i]), np.float64(t[i])
        sum_r += a
        sum_t += b
        max_r, max_t = _larger(max_r, a), _larger(max_t, b)
        low, high = _smaller(low, b - a), _larger(high, b - a)
    return sum_r, sum_t, max_r, max_t, low, high


@_summed
def _moments(r: Any, t: Any, e_r: Any, e_t: Any, max_r: float, max_t: float, mean_r: float, mean_t: float) -> Any:
    mass_r, mass_t, p_delta, q_delta, p_z, q_z = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    rr, tt, rt, dd = 0.0, 0.0, 0.0, 0.0
    for i in range(r.size):
        x, y = np.float64(r[i]) - max_r, np.float64(t[i]) - max_t
        e, f = exponential(x), exponential(y)
        e_r[i], e_t[i] = e, f
        mass_r += e
        mass_t += f
        p_delta += e * (y - x)
        q_delta += f * (y - x)
        p_z += e * x
        q_z += f * y
        u, v = np.float64(r[i]) - mean_r, np.float64(t[i]) - mean_t
        rr += u * u
        tt += v * v
        rt += u * v
        dd += (v - u) * (v - u)
    return mass_r, mass_t, p_delta, q_delta, p_z, q_z, rr, tt, rt, dd


@_summed
def _divergences(r: Any, t: Any, e_r: Any, e_t: Any, inverse_r: float, inverse_t: float, shift: float) -> Any:
    """sum |p - q| and twice the JS sum; `shift` is lse(z_t) - lse(z_r).

    With a >= b the larger and smaller of p and q, a term of JS is
    [(a + b) log(2a / (a + b)) - b |log p - log q|] / 2 and log(2a / (a + b)) = 2 artanh((a - b) / (3a + b)).
    """
    difference, js = 0.0, 0.0
    for i in range(r.size):
        p, q = e_r[i] * inverse_r, e_t[i] * inverse_t
        a, b = _larger(p, q), _smaller(p, q)
        difference += a - b
        log_ratio = np.float64(t[i]) - np.float64(r[i]) - shift
        js += (a + b) * 2.0 * arctanh((a - b) / (3.0 * a + b)) - b * abs(log_ratio)
    return difference, js


@_summed
def _close_divergences(r: Any, t: Any, e_r: Any, e_t: Any, inverse_r: float, inverse_t: float, shift: float) -> Any:
    """`_divergences` where |u| <= 2 for u = log q - log p, without its division.

    A term of twice JS is (q - p) u / 2 - (p + q) log cosh(u / 2).
    """
    difference, js = 0.0, 0.0
    for i in range(r.size):
        p, q = e_r[i] * inverse_r, e_t[i] * inverse_t
        u = np.float64(t[i]) - np.float64(r[i]) - shift
        difference += abs(q - p)
        js += 0.5 * (q - p) * u - (p + q) * log_cosh_half(u * u)
    return difference, js


@_compiled
def _keep_top(row: Any, first: int, values: Any, ids: Any) -> None:
    """Insert the block `row`, whose first id is `first`, into the top-k found so far."""
    for i in range(row.size):
        value = np.float64(row[i])
        if value > values[-1]:
            k = values.size - 1
            while k > 0 and value > values[k - 1]:
                values[k], ids[k] = values[k - 1], ids[k - 1]
                k -= 1
            values[k], ids[k] = value, first + i


@_compiled
def _rank(row: Any, token: int, ids: Any) -> int:
    """Rank of `token` in `row`, from 1, ties by lowest id; `ids` is the row's top-k."""
    for k in range(ids.size):
        if ids[k] == token:
            return k + 1
    ahead = 0
    for i in range(row.size):
        ahead += row[i] > row[token] or (row[i] == row[token] and i < token)
    return ahead + 1


@_compiled
def _scan(r: Any, t: Any, row: Any, top: Any, ids: Any) -> bool:
    """First pass: extrema, means and top-k; False where a logit of either row is not finite."""
    sum_r, sum_t, max_r, max_t, low, high = 0.0, 0.0, -np.inf, -np.inf, np.inf, -np.inf
    top[:], ids[:] = -np.inf, -1
    for start in range(0, r.size, _SCAN):
        block_r, block_t = r[start : start + _SCAN], t[start : start + _SCAN]
        s_r, s_t, m_r, m_t, lo, hi = _sums(block_r, block_t)
        if not (abs(s_r) < np.inf and abs(s_t) < np.inf):
            return False
        if m_r > top[0, -1]:
            _keep_top(block_r, start, top[0], ids[0])
        if m_t > top[1, -1]:
            _keep_top(block_t, start, top[1], ids[1])
        sum_r, sum_t, low, high = sum_r + s_r, sum_t + s_t, min(low, lo), max(high, hi)
        max_r, max_t = max(max_r, m_r), max(max_t, m_t)
    row.max_reference, row.max_candidate = max_r, max_t
    row.mean_reference, row.mean_candidate = sum_r / r.size, sum_t / r.size
    shift = row.mean_candidate - row.mean_reference
    row.max_centred_delta = max(high - shift, shift - low)
    return True


@_compiled
def _reduce(r: Any, t: Any, row: Any, e_r: Any, e_t: Any) -> None:
    """Second and third pass over rows that are finite and scanned."""
    mass_r, mass_t, p_delta, q_delta, p_z, q_z = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    rr, tt, rt, dd, difference, js = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    n, mean_r, mean_t = r.size, row.mean_reference, row.mean_candidate
    for i in range(0, n, _BLOCK):
        j = i + _BLOCK
        part = _moments(
            r[i:j], t[i:j], e_r[i:j], e_t[i:j], row.max_reference, row.max_candidate, mean_r, mean_t
        )  # fmt: skip
        mass_r, mass_t, p_delta, q_delta = mass_r + part[0], mass_t + part[1], p_delta + part[2], q_delta + part[3]
        p_z, q_z, rr, tt, rt, dd = p_z + part[4], q_z + part[5], rr + part[6], tt + part[7], rt + part[8], dd + part[9]
    row.log_mass_reference, row.log_mass_candidate = np.log(mass_r), np.log(mass_t)
    shift = row.max_candidate - row.max_reference + np.log(mass_t) - np.log(mass_r)
    close = row.max_centred_delta + abs(shift - (mean_t - mean_r)) <= _CLOSE
    for i in range(0, n, _BLOCK):
        j = i + _BLOCK
        if close:
            part_tv, part_js = _close_divergences(r[i:j], t[i:j], e_r[i:j], e_t[i:j], 1.0 / mass_r, 1.0 / mass_t, shift)
        else:
            part_tv, part_js = _divergences(r[i:j], t[i:j], e_r[i:j], e_t[i:j], 1.0 / mass_r, 1.0 / mass_t, shift)
        difference, js = difference + part_tv, js + part_js
    row.p_delta, row.q_delta = p_delta / mass_r, q_delta / mass_t
    row.entropy_reference = row.log_mass_reference - p_z / mass_r
    row.entropy_candidate = row.log_mass_candidate - q_z / mass_t
    row.abs_difference, row.jensen_shannon = difference, max(0.0, js / 2.0)
    row.centred_square_reference, row.centred_square_candidate, row.centred_product = rr, tt, rt
    row.square_reference, row.square_candidate = rr + n * mean_r**2, tt + n * mean_t**2
    row.product = rt + n * mean_r * mean_t
    row.centred_square_delta, row.square_delta = dd, dd + n * (mean_t - mean_r) ** 2
    row.scale = rt / rr if rr > 0.0 else np.nan
    row.offset = mean_t - row.scale * mean_r


@_compiled
def _finish(r: Any, t: Any, row: Any, top: Any, ids: Any, e_r: Any, e_t: Any) -> None:
    _reduce(r, t, row, e_r, e_t)
    row.reference_at_candidate_top1 = np.float64(r[ids[1, 0]])
    row.candidate_at_reference_top1 = np.float64(t[ids[0, 0]])
    row.rank_of_reference_top1 = _rank(t, ids[0, 0], ids[1])
    row.rank_of_candidate_top1 = _rank(r, ids[1, 0], ids[0])


@_compiled
def _inside(r: Any, t: Any, row: Any) -> Any:
    """Ids inside the support; counts what is not finite there."""
    kept, inside = 0, np.empty(r.size, np.int64)
    for i in range(r.size):
        if r[i] == -np.inf and t[i] == -np.inf:
            continue
        inside[kept] = i
        kept += 1
        row.nonfinite_reference += not (abs(r[i]) <= _HUGE)
        row.nonfinite_candidate += not (abs(t[i]) <= _HUGE)
    row.support = kept
    return inside[:kept]


@_compiled
def measure(reference: Any, candidate: Any, labels: Any, stats: Any, top: Any, ids: Any, scratch: Any) -> None:
    """Fill `stats` [N], `top` and `ids` [N, 2, K] for rows [N, V]; `scratch` [2, V] is overwritten."""
    for n in range(labels.size):
        r, t, row = reference[n], candidate[n], stats[n]
        row.support = r.size
        if _scan(r, t, row, top[n], ids[n]):
            _finish(r, t, row, top[n], ids[n], scratch[0], scratch[1])
        if not (row.centred_square_reference + row.centred_square_candidate < np.inf):
            inside = _inside(r, t, row)
            if row.nonfinite_reference + row.nonfinite_candidate + (inside.size == 0) == 0:
                masked_r, masked_t = r[inside], t[inside]
                _scan(masked_r, masked_t, row, top[n], ids[n])
                _finish(masked_r, masked_t, row, top[n], ids[n], scratch[0], scratch[1])
                for side in range(2):
                    for k in range(min(ids.shape[2], inside.size)):
                        ids[n, side, k] = inside[ids[n, side, k]]
        if labels[n] >= 0:
            row.label_reference, row.label_candidate = np.float64(r[labels[n]]), np.float64(t[labels[n]])
