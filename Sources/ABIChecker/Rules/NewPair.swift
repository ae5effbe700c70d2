internal import PVClock

// Section D of the catalogue: what a new pair for the master clock does to the time.

extension Rule {
  static let newPair: [Rule] = [.resnapBounded, .resnapNoJump]

  private static let method =
    "vCPU 0 registers through the old MSR and then through the new one; the new record's system_time less what the old "
    + "record gives at the new tsc_timestamp."

  static let resnapBounded = Rule(
    "RESNAP-BOUNDED",
    "A new pair for the master clock steps the clock by no more than what CLOCK_MONOTONIC_RAW and the record have come "
      + "apart by since the pair before: the rounding of two multipliers.",
    source: "arch/x86/kvm/x86.c, pvclock_update_vm_gtod_copy(); Linux 1e293d1ae88c (5.10)",
    method: method, scenarios: [.newPair],
    faults: ["a clock that steps where the old MSR is written, or where the new one is"]
  ) { timeline in
    var findings = Findings()
    for step in timeline.pairSteps(&findings) {
      findings.expect(
        step.nanoseconds, in: step.allowed, limit: Timeline.widestUseful, at: step.events,
        "the step at a new pair \(short(step.elapsed)) after the one before",
        why: "the two multipliers make \(step.prediction)")
    }
    return findings.outcome(
      atLeast: 2, "new pairs: " + timeline.stepReport, in: timeline)
  }

  static let resnapNoJump = Rule(
    "RESNAP-NO-JUMP",
    "A new pair for the master clock goes on where the one before leads: it steps the clock by rounding only, at most 2 ns.",
    source:
      "Documentation/virt/kvm/x86/msr.rst, flags bit 0 (\"guaranteed to be monotonic\"); arch/x86/kvm/x86.c, "
      + "pvclock_update_vm_gtod_copy()",
    method: method, scenarios: [.newPair],
    faults: ["a step of more than rounding, as every pair taken from CLOCK_MONOTONIC_RAW has"]
  ) { timeline in
    var findings = Findings()
    for step in timeline.pairSteps(&findings) {
      findings.expect(
        abs(step.nanoseconds) <= 2, at: step.events,
        "a step of at most 2 ns at a new pair \(short(step.elapsed)) after the one before",
        seen: "\(nanoseconds(step.nanoseconds)); the two multipliers make \(step.prediction)")
    }
    return findings.outcome(
      atLeast: 2, "new pairs: " + timeline.stepReport, in: timeline)
  }
}

/// How the clock steps from one pair of the master clock to the next.
private struct PairStep {
  var nanoseconds: Int128
  /// What the record counted between the two pairs, in nanoseconds.
  var elapsed: Int128
  /// Less what the record's clock gains on CLOCK_MONOTONIC_RAW meanwhile.
  var predicted: Interval
  var allowed: Interval
  var events: [Event]

  /// "-6 ns to -5 ns".
  var prediction: String {
    "\(short(predicted.lower)) to \(short(predicted.upper)) of the \(short(elapsed))"
  }
}

extension Timeline {
  /// Between two looks at vCPU 0's record, in master-clock mode both, it went to the old MSR and back.
  fileprivate func pairSteps(_ findings: inout Findings) -> [PairStep] {
    var steps: [PairStep] = []
    var last: (event: Event, page: ClockPage)?
    var changes: Set<Hex> = []
    var isCurrent = false
    for event in history.events {
      if event.actor == .vcpu(0) { isCurrent = true }
      switch (event.action, event.actor) {
      case (.vmCreated, _), (.setClock, _), (.setTSCOffset, _):
        (last, changes, isCurrent) = (nil, [], false)
      case (.wroteMSR(let msr, _, nil), .vcpu(0)): changes.insert(msr)
      case (.page(0, _, let page), _) where isCurrent:
        guard page.flags.contains(.tscStable) else {
          findings.lacks("the VM is not in master-clock mode: bit 0 is clear in vcpu0's record")
          last = nil
          continue
        }
        if let old = last, old.page.scale == page.scale, changes.contains(Hex(MSR.systemTimeOld)),
          let step = step(from: old, to: (event, page))
        {
          steps.append(step)
        }
        (last, changes) = ((event, page), [])
      default: continue
      }
    }
    return steps
  }

  private func step(
    from old: (event: Event, page: ClockPage), to new: (event: Event, page: ClockPage)
  ) -> PairStep? {
    let cycles = difference(new.page.tscTimestamp, old.page.tscTimestamp)
    guard cycles > 0 else { return nil }
    let continued = old.page.systemTime(atTSC: new.page.tscTimestamp)
    let elapsed = difference(continued, old.page.systemTime)
    guard elapsed > 0 else { return nil }
    let drift = driftOfTSC(over: Interval(elapsed, elapsed))
    return PairStep(
      nanoseconds: difference(new.page.systemTime, continued), elapsed: elapsed,
      predicted: Interval(-drift.upper, -drift.lower),
      // A host need not step at all.
      allowed: Interval(min(0, -drift.upper) - rounding, max(0, -drift.lower) + rounding),
      events: [old.event, new.event])
  }

  /// "-6 ns after 150.3 ms (predicted -7 ns to -6 ns), …".
  fileprivate var stepReport: String {
    var ignored = Findings()
    return pairSteps(&ignored).prefix(4).map {
      "\(short($0.nanoseconds)) after \(short($0.elapsed)) "
        + "(predicted \(short($0.predicted.lower)) to \(short($0.predicted.upper)))"
    }.joined(separator: ", ")
  }
}
