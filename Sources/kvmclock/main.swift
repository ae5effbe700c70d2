import ABIChecker
import Scenarios
import Glibc
var u = utsname(); uname(&u)
let facts = HostFacts(kernel: "6.18.44", backend: "kvm_pvm", clocksource: "tsc", tscKHz: 2596150)
let only = CommandLine.arguments.dropFirst()
let rules = Rule.all.filter { only.isEmpty || only.contains($0.id) }
let r = try Runner.run(RunPlan(rules: rules, seed: 1), host: facts, cancellation: Cancellation()) { h in
  if h.events.count < 0 { print(h) } }
for v in r.verdicts { print(v.rule, v.outcome) }
for t in r.timings { print(t.scenario, t.attempt, t.nanoseconds / 1000, "us") }
print("retries", r.retries)
