//! What comes again every day and every week, taken out of a series: STL (Cleveland et al. 1990), and MSTL
//! (Bandara et al. 2021) for two seasons. The loess work is `stlrs`.

use stlrs::Mstl;
use stlrs::Stl;
use stlrs::StlParams;

/// A series in its parts: they sum up to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Parts {
    /// What comes again; of two seasons their sum.
    pub seasonal: Vec<f64>,
    /// The shortest of the seasons.
    pub daily: Vec<f64>,
    /// The slow course.
    pub trend: Vec<f64>,
    /// The rest.
    pub residual: Vec<f64>,
}

/// How exact the loess curves are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// At every point, as statsmodels does it.
    Exact,
    /// At every tenth of a window, straight lines in between: a tenth of the time. What comes again is the mean
    /// of its neighbours (degree 0): of few days, a slope would follow each of them.
    Few,
}

fn params(window: Option<usize>, robust: bool, work: Work) -> StlParams {
    let mut params = Stl::params();
    // Loops as in statsmodels; outliers have no weight when it is robust.
    params.robust(robust);
    params.inner_loops(if robust { 2 } else { 5 });
    params.outer_loops(if robust { 15 } else { 0 });
    if let Some(window) = window {
        params.seasonal_length(window);
    }
    if work == Work::Exact {
        params
            .seasonal_degree(1)
            .seasonal_jump(1)
            .trend_jump(1)
            .low_pass_jump(1);
    }
    params
}

/// STL with one period and a seasonal smoother over `window` periods (odd, 7 or more). `None`: the series is
/// shorter than two periods.
#[must_use]
pub fn stl(
    values: &[f64],
    period: usize,
    window: usize,
    robust: bool,
    work: Work,
) -> Option<Parts> {
    let found = params(Some(window), robust, work)
        .fit(values, period)
        .ok()?;
    let (seasonal, trend, residual, _) = found.into_parts();
    Some(Parts {
        daily: seasonal.clone(),
        seasonal,
        trend,
        residual,
    })
}

/// MSTL with several periods, the shortest first. `None`: the series is shorter than two of the longest.
#[must_use]
pub fn mstl(values: &[f64], periods: &[usize], robust: bool, work: Work) -> Option<Parts> {
    let found = Mstl::params()
        .stl_params(params(None, robust, work))
        .fit(values, periods)
        .ok()?;
    let (seasonal, trend, residual) = found.into_parts();
    let mut sum = vec![0.0; values.len()];
    for one in &seasonal {
        for (sum, value) in sum.iter_mut().zip(one) {
            *sum += value;
        }
    }
    Some(Parts {
        daily: seasonal.into_iter().next().unwrap_or_default(),
        seasonal: sum,
        trend,
        residual,
    })
}
