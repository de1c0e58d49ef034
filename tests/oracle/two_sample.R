# Two-sample statistics of stratified and weighted tests on data that R bundles, and on
# data with some and mostly ties, by R's survival package. Run with
#   Rscript two_sample.R > two_sample.txt
# The tests read the printed values; they do not need R.
library(survival)
options(digits = 15)
cat("R", as.character(getRversion()), "survival", as.character(packageVersion("survival")), "\n")

# A generator that any language can repeat: x <- 16807 x mod (2^31 - 1).
uniforms <- function(n, seed) {
  out <- numeric(n); x <- seed
  for (i in 1:n) { x <- (16807 * x) %% 2147483647; out[i] <- x / 2147483647 }
  out
}
made <- function(grid) {
  u <- uniforms(4 * 120, 20240601)
  time <- -10 * log(u[1:120])
  if (grid > 0) time <- ceiling(time / grid) * grid
  data.frame(time = time, event = as.integer(u[121:240] < 0.7),
             arm = as.integer(u[241:360] < 0.5), stratum = floor(3 * u[361:480]))
}
show <- function(name, d) {
  say <- function(what, value) cat(name, what, format(value, digits = 15), "\n")
  plain <- survdiff(Surv(time, event) ~ arm, d)
  say("logrank_score", plain$exp[2] - plain$obs[2])
  say("logrank_variance", plain$var[2, 2])
  strat <- survdiff(Surv(time, event) ~ arm + strata(stratum), d)
  say("stratified_logrank_chi2", strat$chisq)
  one <- coxph(Surv(time, event) ~ arm, d, control = coxph.control(eps = 1e-14, iter.max = 50))
  say("cox_beta", unname(coef(one))); say("cox_se", sqrt(one$var[1, 1]))
  many <- coxph(Surv(time, event) ~ arm + strata(stratum), d,
                control = coxph.control(eps = 1e-14, iter.max = 50))
  say("stratified_cox_beta", unname(coef(many))); say("stratified_cox_se", sqrt(many$var[1, 1]))
  fit <- survfit(Surv(time, event) ~ 1, d, subset = arm == 1)
  at <- summary(fit, times = 8, extend = TRUE)
  say("arm1_survival_8", at$surv); say("arm1_survival_8_se", at$std.err)
  say("arm1_nelson_aalen_8", at$cumhaz)
  cause <- factor(ifelse(d$event == 1, 1 + d$stratum %% 2, 0), 0:2)
  aj <- summary(survfit(Surv(d$time, cause) ~ 1), times = 8)
  say("aalen_johansen_8_cause1", aj$pstate[1, 2]); say("aalen_johansen_8_cause2", aj$pstate[1, 3])
}
show("untied", made(0))
show("some_ties", made(0.5))
show("mostly_ties", made(4))
v <- data.frame(time = veteran$time, event = veteran$status, arm = as.integer(veteran$trt == 2),
                stratum = as.integer(veteran$celltype))
vs <- survdiff(Surv(time, event) ~ arm + strata(stratum), v)
cat("veteran stratified_logrank_chi2", format(vs$chisq, digits = 15), "\n")
vc <- coxph(Surv(time, event) ~ arm + strata(stratum), v, control = coxph.control(eps = 1e-14))
cat("veteran stratified_cox_beta", format(unname(coef(vc)), digits = 15), "\n")
