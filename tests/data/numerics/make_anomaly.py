#!/usr/bin/env python3
"""Makes anomaly.json beside it: what statsmodels and scikit-learn say of a few series and points.

Run it with numpy, statsmodels and scikit-learn installed; the output is committed. Versions are in it."""
import json
import pathlib

import numpy as np
import sklearn
import statsmodels
from sklearn.cluster import DBSCAN
from sklearn.ensemble import IsolationForest
from statsmodels.tsa.seasonal import MSTL, STL

out = {"_versions": {m.__name__: m.__version__ for m in (np, statsmodels, sklearn)}}
rng = np.random.default_rng(20241123)
hours = np.arange(132)
season = 20 * np.sin(hours * 2 * np.pi / 12) + 0.3 * hours + rng.standard_t(3, 132) * 2
season[70] += 60
for name, robust in (("stl", False), ("stl_robust", True)):
    parts = STL(season, period=12, seasonal=7, robust=robust).fit()
    out[name] = dict(y=season.tolist(), seasonal=parts.seasonal.tolist(), trend=parts.trend.tolist(),
                     resid=parts.resid.tolist())
steps = np.arange(260)
double = 5 + 9 * np.sin(steps * 2 * np.pi / 24) + 5 * np.cos(steps * 2 * np.pi / 84)
double = double + rng.standard_t(3, 260)
parts = MSTL(double, periods=(24, 84)).fit()
out["mstl"] = dict(y=double.tolist(), seasonal=parts.seasonal.T.tolist(), trend=parts.trend.tolist(),
                   resid=parts.resid.tolist())

points = np.round(np.concatenate([rng.normal(0, 0.4, (40, 3)), rng.normal(3, 0.5, (30, 3)),
                                  rng.uniform(-6, 9, (12, 3))]), 5)
found = DBSCAN(eps=0.8, min_samples=4).fit(points)
out["dbscan"] = dict(X=points.tolist(), eps=0.8, labels=found.labels_.tolist(),
                     core=found.core_sample_indices_.tolist())

forest = IsolationForest(n_estimators=20, max_samples=48, random_state=3).fit(points)
trees = [dict(feature=t.feature.tolist(), threshold=t.threshold.tolist(), left=t.children_left.tolist(),
              right=t.children_right.tolist(), n=t.n_node_samples.tolist())
         for t in (e.tree_ for e in forest.estimators_)]
out["isolation_forest"] = dict(X=points.tolist(), max_samples=48, trees=trees,
                               score_samples=forest.score_samples(points).tolist())

path = pathlib.Path(__file__).with_name("anomaly.json")
path.write_text(json.dumps(out) + "\n")
