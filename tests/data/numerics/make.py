#!/usr/bin/env python3
"""Makes fixtures.json beside it: what scipy, statsmodels, ruptures and pymannkendall say of a few series.

Run it with numpy, scipy, statsmodels, ruptures and pymannkendall installed; the output is committed. Versions are in it."""
import json
import pathlib

import numpy as np
import pymannkendall
import ruptures
import scipy
import statsmodels
import statsmodels.api as sm
from scipy import ndimage, stats

rng = np.random.default_rng(20240115)
out = {"_versions": {m.__name__: m.__version__ for m in (np, scipy, statsmodels, ruptures, pymannkendall)}}

x = np.sort(np.round(rng.uniform(0, 40, 60), 1))  # with ties
y = np.round(0.7 * x + rng.standard_t(2, 60) * 4, 1)
slope, intercept, low, high = stats.theilslopes(y, x, 0.95)
out["theilslopes"] = dict(x=x.tolist(), y=y.tolist(), slope=slope, intercept=intercept, low=low, high=high)

values = rng.standard_cauchy(81)
out["mad"] = dict(x=values.tolist(), mad=stats.median_abs_deviation(values, scale="normal"))

spiky = np.round(rng.normal(size=70) + 30 * (rng.random(70) < 0.1), 6)
out["grey_opening"] = dict(x=spiky.tolist(), size=7, y=ndimage.grey_opening(spiky, size=7).tolist())

phi, n = 0.9, 120
columns = np.stack([np.ones(n), np.linspace(0, 1, n), np.sin(np.linspace(0, 9, n))], 1)
noise = np.zeros(n)
for i in range(1, n):
    noise[i] = phi * noise[i - 1] + rng.standard_normal()
target = columns @ [3.0, 8.0, -2.0] + noise
sigma = phi ** np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
fit = sm.GLS(target, columns, sigma=sigma).fit()
out["gls_ar1"] = dict(y=target.tolist(), X=columns.tolist(), phi=phi, params=fit.params.tolist(),
                      rss_white=float(fit.wresid @ fit.wresid), llf=float(fit.llf), bic=float(fit.bic))

levels = np.repeat([0.0, 4.0, 1.0, 9.0], [30, 50, 45, 25]) + rng.standard_normal(150)
found = ruptures.Pelt(model="l2", min_size=2, jump=1).fit(levels).predict(pen=12)
out["pelt_l2"] = dict(y=levels.tolist(), pen=12, bkps=[int(b) for b in found])

line = stats.linregress(x, y)
out["linregress"] = dict(x=x.tolist(), y=y.tolist(), slope=line.slope, intercept=line.intercept, r=line.rvalue,
                         p=line.pvalue, stderr=line.stderr)

a, b = rng.standard_normal(22), rng.standard_normal(22)
b += 0.8 * a
tau = stats.kendalltau(a, b, method="exact")
out["kendalltau_exact"] = dict(x=a.tolist(), y=b.tolist(), tau=tau.statistic, p=tau.pvalue)
tau = stats.kendalltau(x, y, method="asymptotic")
out["kendalltau_asymptotic"] = dict(x=x.tolist(), y=y.tolist(), tau=tau.statistic, p=tau.pvalue)

correlated = np.zeros(80)
for i in range(1, 80):
    correlated[i] = 0.7 * correlated[i - 1] + rng.standard_normal()
correlated = np.round(correlated + 0.02 * np.arange(80), 1)  # with ties
plain = pymannkendall.original_test(correlated)
wide = pymannkendall.hamed_rao_modification_test(correlated)
out["mann_kendall"] = dict(y=correlated.tolist(), s=float(plain.s), var_s=float(plain.var_s), z=float(plain.z),
                           p=float(plain.p), hamed_rao_z=float(wide.z), hamed_rao_p=float(wide.p))

path = pathlib.Path(__file__).with_name("fixtures.json")
path.write_text(json.dumps(out) + "\n")
