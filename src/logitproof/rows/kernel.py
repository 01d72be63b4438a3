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

_BLOCK = 1024  # both blocks and their exponentials fit into the smallest cache
_SCAN = 512  # a block that may hold one of the top-k is searched one by one
_HUGE = 1e100  # squares of anything beyond overflow; no logit is
_CLOSE = 2.0  # nats; where the interpolant of `log_cosh_half` ends
_OFF = 3e-6  # how far the masses may be off, as a share of the total variation: its square is the error
_F32 = np.float32


def _extremum(name: str) -> Callable[[Any, Any], Any]:
    def typed(typing_context: Any, first: Any, second: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = arguments[0].type
            called = builder.module.declare_intrinsic(name, (kind,), ir.FunctionType(kind, (kind, kind)))
            return builder.call(called, arguments, fastmath=("nnan", "nsz"))

        return first(first, first), generate

    return intrinsic(typed)


_larger, _smaller, _signed = _extremum("llvm.maxnum"), _extremum("llvm.minnum"), _extremum("llvm.copysign")
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


@_exact
def coarse_exponential(x: Any) -> Any:
    """exp(x) for a float32 x <= 0, within 2e-7 of it; below -87 it stays at exp(-87). As `exponential`, in fewer terms."""
    x = _larger(x, _F32(-87.0))
    magic = _F32(x * _F32(1.44269504) + _F32(12582912.0))
    n = _F32(magic - _F32(12582912.0))
    r = _F32(_F32(x - n * _F32(0.693145752)) - n * _F32(1.42860677e-06))
    r2 = _F32(r * r)
    low = _F32(_F32(0.5) + _F32(0.16666666) * r)
    high = _F32(_F32(0.041666664) + _F32(0.008333333) * r + _F32(0.0013888889) * r2)
    y = _F32(_F32(1.0) + _F32(r + r2 * _F32(low + r2 * high)))
    bits = np.int32(y.view(np.int32) + np.int32(magic.view(np.int32) << np.int32(23)))
    return np.int32(bits).view(np.float32)


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
def _coarse_mass(row: Any, most: float) -> float:
    """sum exp(row - most), of as many entries as float32 can add."""
    mass, largest = _F32(0.0), row.dtype.type(most)
    for i in range(row.size):
        mass += coarse_exponential(_F32(row[i] - largest))
    return np.float64(mass)


@_summed
def _moments(r: Any, t: Any, mean_r: float, mean_t: float) -> Any:
    rr, tt, rt, dd = 0.0, 0.0, 0.0, 0.0
    for i in range(r.size):
        u, v = np.float64(r[i]) - mean_r, np.float64(t[i]) - mean_t
        rr += u * u
        tt += v * v
        rt += u * v
        dd += (v - u) * (v - u)
    return rr, tt, rt, dd


@_summed
def _exponentials(row: Any, lse: float, out: Any) -> float:
    """Fills `out` with exp(row - lse); their sum. A loop of its own, since all registers are needed for less than this."""
    mass = 0.0
    for i in range(row.size):
        e = exponential(np.float64(row[i]) - lse)
        out[i] = e
        mass += e
    return mass


@_summed
def _divergences(r: Any, t: Any, lse_r: float, lse_t: float, p: Any, q: Any) -> Any:
    """Sums over p and q, the exponentials of x = r - lse_r and y = t - lse_t, with u = y - x.

    Sum p u, q u, p x and q y, sum |p - q|, sum of q with the sign of q - p, and what either side gives to twice the JS sum:
    p log(2p / (p + q)) and q log(2q / (p + q)). With a >= b the larger and smaller of p and q, log(2a / (a + b)) =
    2 artanh((a - b) / (3a + b)).
    """
    p_u, q_u, p_x, q_y, apart, signed, js_p, js_q = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(r.size):
        x, y = np.float64(r[i]) - lse_r, np.float64(t[i]) - lse_t
        u = y - x
        p_u += p[i] * u
        q_u += q[i] * u
        p_x += p[i] * x
        q_y += q[i] * y
        a, b = _larger(p[i], q[i]), _smaller(p[i], q[i])
        apart += a - b
        signed += _signed(q[i], u)
        log_ratio = 2.0 * arctanh((a - b) / (3.0 * a + b))
        js_p += p[i] * (log_ratio - _larger(u, 0.0))
        js_q += q[i] * (log_ratio + _smaller(u, 0.0))
    return p_u, q_u, p_x, q_y, apart, signed, js_p, js_q


@_summed
def _close_divergences(r: Any, t: Any, lse_r: float, lse_t: float, p: Any, q: Any) -> Any:
    """`_divergences` where |u| <= 2, without its division: log(2p / (p + q)) = -u / 2 - log cosh(u / 2)."""
    p_u, q_u, p_x, q_y, apart, signed, js_p, js_q = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(r.size):
        x, y = np.float64(r[i]) - lse_r, np.float64(t[i]) - lse_t
        u = y - x
        p_u += p[i] * u
        q_u += q[i] * u
        p_x += p[i] * x
        q_y += q[i] * y
        apart += abs(q[i] - p[i])
        signed += _signed(q[i], u)
        term = log_cosh_half(u * u)
        js_p -= p[i] * term
        js_q -= q[i] * term
    return p_u, q_u, p_x, q_y, apart, signed, js_p - 0.5 * p_u, js_q + 0.5 * q_u


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
def _scan(r: Any, t: Any, row: Any, top: Any, ids: Any) -> Any:
    """First pass: extrema, means, top-k; both log-sum-exps nearly. False first where a logit of either row is not finite."""
    sum_r, sum_t, max_r, max_t, low, high = 0.0, 0.0, -np.inf, -np.inf, np.inf, -np.inf
    mass_r, mass_t, fine = 0.0, 0.0, np.empty(_SCAN)
    top[:], ids[:] = -np.inf, -1
    for start in range(0, r.size, _SCAN):
        block_r, block_t = r[start : start + _SCAN], t[start : start + _SCAN]
        s_r, s_t, m_r, m_t, lo, hi = _sums(block_r, block_t)
        if not (abs(s_r) < np.inf and abs(s_t) < np.inf):
            return False, 0.0, 0.0
        sum_r, sum_t, low, high = sum_r + s_r, sum_t + s_t, min(low, lo), max(high, hi)
        if m_r > max_r:
            mass_r, max_r = mass_r * np.exp(max_r - m_r), m_r
        if m_t > max_t:
            mass_t, max_t = mass_t * np.exp(max_t - m_t), m_t
        # a few tokens have most of the mass, and chance takes nothing off their error
        if m_r > top[0, -1]:
            _keep_top(block_r, start, top[0], ids[0])
            mass_r += _exponentials(block_r, max_r, fine[: block_r.size])
        else:
            mass_r += _coarse_mass(block_r, max_r)
        if m_t > top[1, -1]:
            _keep_top(block_t, start, top[1], ids[1])
            mass_t += _exponentials(block_t, max_t, fine[: block_t.size])
        else:
            mass_t += _coarse_mass(block_t, max_t)
    row.max_reference, row.max_candidate = max_r, max_t
    row.mean_reference, row.mean_candidate = sum_r / r.size, sum_t / r.size
    shift = row.mean_candidate - row.mean_reference
    row.max_centred_delta = max(high - shift, shift - low)
    return True, max_r + np.log(mass_r), max_t + np.log(mass_t)


@_compiled
def _reduce(r: Any, t: Any, row: Any, lse_r: float, lse_t: float) -> float:
    """Second pass, by log-sum-exps that are nearly right; by how much the ratio of the masses says that they are not.

    With P and Q the masses that came out, the true p / P and q / Q; a sum of the first degree in both, such as that of JS or
    |p - q|, is 1 / P times itself at p and q P / Q, of which its derivative gives all but the square of P / Q - 1.
    """
    mass_p, mass_q, p_u, q_u, p_x, q_y, apart, signed, js_p, js_q = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    rr, tt, rt, dd = 0.0, 0.0, 0.0, 0.0
    n, mean_r, mean_t = r.size, row.mean_reference, row.mean_candidate
    is_close = row.max_centred_delta + abs(lse_t - lse_r - (mean_t - mean_r)) <= _CLOSE
    exponentials = np.empty((2, _BLOCK))
    for i in range(0, n, _BLOCK):
        block_r, block_t = r[i : i + _BLOCK], t[i : i + _BLOCK]
        p, q = exponentials[0, : block_r.size], exponentials[1, : block_r.size]
        mass_p += _exponentials(block_r, lse_r, p)
        mass_q += _exponentials(block_t, lse_t, q)
        moments = _moments(block_r, block_t, mean_r, mean_t)
        rr, tt, rt, dd = rr + moments[0], tt + moments[1], rt + moments[2], dd + moments[3]
        if is_close:
            part = _close_divergences(block_r, block_t, lse_r, lse_t, p, q)
        else:
            part = _divergences(block_r, block_t, lse_r, lse_t, p, q)
        p_u, q_u, p_x, q_y = p_u + part[0], q_u + part[1], p_x + part[2], q_y + part[3]
        apart, signed, js_p, js_q = apart + part[4], signed + part[5], js_p + part[6], js_q + part[7]
    off = mass_p / mass_q - 1.0
    row.log_mass_reference = lse_r - row.max_reference + np.log(mass_p)
    row.log_mass_candidate = lse_t - row.max_candidate + np.log(mass_q)
    shift = (lse_t - row.max_candidate) - (lse_r - row.max_reference)
    row.p_delta, row.q_delta = p_u / mass_p + shift, q_u / mass_q + shift
    row.entropy_reference = np.log(mass_p) - p_x / mass_p
    row.entropy_candidate = np.log(mass_q) - q_y / mass_q
    row.abs_difference = max(0.0, (apart + off * signed) / mass_p)
    row.jensen_shannon = max(0.0, (js_p + js_q + off * js_q) / (2.0 * mass_p))
    row.centred_square_reference, row.centred_square_candidate, row.centred_product = rr, tt, rt
    row.square_reference, row.square_candidate = rr + n * mean_r**2, tt + n * mean_t**2
    row.product = rt + n * mean_r * mean_t
    row.centred_square_delta, row.square_delta = dd, dd + n * (mean_t - mean_r) ** 2
    row.scale = rt / rr if rr > 0.0 else np.nan
    row.offset = mean_t - row.scale * mean_r
    return abs(off)


@_compiled
def _finish(r: Any, t: Any, row: Any, top: Any, ids: Any, lse_r: float, lse_t: float) -> None:
    off = _reduce(r, t, row, lse_r, lse_t)
    if off > _OFF * row.abs_difference:
        _reduce(r, t, row, row.max_reference + row.log_mass_reference, row.max_candidate + row.log_mass_candidate)
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
def measure(reference: Any, candidate: Any, labels: Any, stats: Any, top: Any, ids: Any) -> None:
    """Fill `stats` [N], `top` and `ids` [N, 2, K] for rows [N, V]."""
    for n in range(labels.size):
        r, t, row = reference[n], candidate[n], stats[n]
        row.support = r.size
        is_finite, lse_r, lse_t = _scan(r, t, row, top[n], ids[n])
        if is_finite:
            _finish(r, t, row, top[n], ids[n], lse_r, lse_t)
        if not (row.centred_square_reference + row.centred_square_candidate < np.inf):
            inside = _inside(r, t, row)
            if row.nonfinite_reference + row.nonfinite_candidate + (inside.size == 0) == 0:
                masked_r, masked_t = r[inside], t[inside]
                _, lse_r, lse_t = _scan(masked_r, masked_t, row, top[n], ids[n])
                _finish(masked_r, masked_t, row, top[n], ids[n], lse_r, lse_t)
                for side in range(2):
                    for k in range(min(ids.shape[2], inside.size)):
                        ids[n, side, k] = inside[ids[n, side, k]]
        if labels[n] >= 0:
            row.label_reference, row.label_candidate = np.float64(r[labels[n]]), np.float64(t[labels[n]])
