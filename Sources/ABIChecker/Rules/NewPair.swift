internal import PVClock

extension Rule {
  static let newPair: [Rule] = [.resnapBounded, .resnapNoJump]

  private static let method =
    "vCPU 0 registers through the old MSR and then through the new one. The step is the new record's system_time less the "
    + "old record evaluated at the new tsc_timestamp."

  static let resnapBounded = Rule(
    "RESNAP-BOUNDED",
    "A new pair for the master clock steps the clock by no more than the difference that CLOCK_MONOTONIC_RAW and the record "
      + "made since the pair before: the rounding of two multipliers.",
    sources: [.commit("Linux 53fafdbb8b21 (5.5)"), .x86("pvclock_update_vm_gtod_copy()")],
    method: method, scenarios: [.newPair], coverage: [.observations(2, "new pairs")],
    needs: [.masterClock], inside: [.observations(1, "new pairs")]
  ) { timeline, findings in
    for step in timeline.pairSteps(&findings) {
      findings.expect(
        step.nanoseconds, in: step.allowed, limit: Timeline.widestUseful, at: step.events,
        "the step at a new pair \(short(step.elapsed)) after the one before",
        why: "the two multipliers make \(step.prediction)",
        // Linux before 6.3 may count with a frequency from before the TSC's refinement.
        fits: abs(step.allowed.distance(to: step.nanoseconds))
          <= share(Timeline.mostUnrefined, of: step.elapsed))
    }
  }

  static let resnapNoJump = Rule(
    "RESNAP-NO-JUMP",
    "A new pair for the master clock goes on from the one before: it steps the clock by rounding only, 0 to 2 ns.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW, flags bit 0 (\"guaranteed to be monotonic\")"),
      .x86("pvclock_update_vm_gtod_copy()"),
    ],
    method: method, scenarios: [.newPair], coverage: [.observations(2, "new pairs")],
    needs: [.masterClock], inside: [.observations(1, "new pairs")]
  ) { timeline, findings in
    for step in timeline.pairSteps(&findings) {
      findings.expect(
        PairStep.rounding.contains(step.nanoseconds), at: step.events,
        "a step of 0 to 2 ns at a new pair \(short(step.elapsed)) after the one before",
        seen: "\(nanoseconds(step.nanoseconds)); the two multipliers make \(step.prediction)",
        fits: step.allowed.contains(step.nanoseconds))
    }
  }
}

/// How the clock steps from one pair of the master clock to the next.
private struct PairStep {
  var nanoseconds: Int128
  /// The time that the record counted between the two pairs, in nanoseconds.
  var elapsed: Int128
  /// Less the record's gain on CLOCK_MONOTONIC_RAW in that time.
  var predicted: Interval
  var allowed: Interval
  var events: [Event]

  /// The step that rounding makes of two pairs on one exact clock.
  ///
  /// Each system_time is the exact clock R rounded down: R1 - f1 and R2 - f2, where 0 <= f < 1. The record counts
  /// R2 - R1 - t from the first pair to the second: (cycles >> -tsc_shift) loses less than one shifted cycle, which is at
  /// most 1 ns, and (… * mul) >> 32 less than 1 ns, so 0 <= t < 2. The step is (R2 - f2) - (R1 - f1 + R2 - R1 - t), which is
  /// f1 - f2 + t: more than -1 and less than 3, and a whole number.
  static let rounding = Interval(0, 2)

  /// "-6 ns to -5 ns".
  var prediction: String {
    "\(short(predicted.lower)) to \(short(predicted.upper)) of the \(short(elapsed))"
  }
}

extension Timeline {
  /// From one look at vCPU 0's newest record to the next, on one setting of the clock.
  fileprivate func pairSteps(_ findings: inout Findings) -> [PairStep] {
    if isInside { return pairStepsInside(&findings) }
    var steps: [PairStep] = []
    for machine in machines {
      var last: (step: Step, page: ClockPage)?
      for step in machine.steps {
        guard case .page(0, let address, let page) = step.event.action,
          step.after.record == address.value, step.after.holdsNewestPair
        else { continue }
        guard page.flags.contains(.tscStable) else {
          findings.lacks("the VM is not in master-clock mode: bit 0 is clear in vcpu0's record")
          last = nil
          continue
        }
        if let old = last, old.step.machine.epoch == step.machine.epoch,
          old.step.after.tscOffset == step.after.tscOffset, step.after.isTSCOffsetCertain,
          let found = pairStep(from: (old.step.event, old.page), to: (step.event, page))
        {
          steps.append(found)
        }
        last = (step, page)
      }
    }
    findings.detail = steps.prefix(4).map {
      "\(short($0.nanoseconds)) after \(short($0.elapsed)) "
        + "(predicted \(short($0.predicted.lower)) to \(short($0.predicted.upper)))"
    }.joined(separator: ", ")
    return steps
  }

  /// The same from inside a guest. Where PVCLOCK_GUEST_STOPPED is set, the host says that it had stopped the guest, and may
  /// have set its clock: that is no new pair of the same clock.
  private func pairStepsInside(_ findings: inout Findings) -> [PairStep] {
    var steps: [PairStep] = []
    var told = 0
    findings.needUpdates(in: self)
    for (old, new) in changesInside {
      guard old.page.flags.contains(.tscStable), new.page.flags.contains(.tscStable) else {
        findings.lacks("the VM is not in master-clock mode: bit 0 is clear in vcpu0's record")
        continue
      }
      guard !new.page.flags.contains(.guestStopped) else {
        told += 1
        continue
      }
      if let step = pairStep(from: old, to: new) { steps.append(step) }
    }
    if told > 0 {
      findings.lacks(
        "the host says of \(told) new pairs, by PVCLOCK_GUEST_STOPPED, that it had stopped the guest"
      )
    }
    return steps
  }

  private func pairStep(
    from old: (event: Event, page: ClockPage), to new: (event: Event, page: ClockPage)
  ) -> PairStep? {
    guard old.page.scale == new.page.scale,
      difference(new.page.tscTimestamp, old.page.tscTimestamp) > 0
    else { return nil }
    let continued = old.page.systemTime(atTSC: new.page.tscTimestamp)
    let elapsed = difference(continued, old.page.systemTime)
    guard elapsed > 0 else { return nil }
    let drift =
      isInside
      ? hostDriftInside(over: elapsed) : driftOfTSC(over: Interval(elapsed, elapsed))
    // A clocksource other than the TSC has ticks of its own.
    let ticks = isTSC ? 0 : rounding
    return PairStep(
      nanoseconds: difference(new.page.systemTime, continued), elapsed: elapsed,
      predicted: Interval(-drift.upper, -drift.lower),
      // A host need not step at all.
      allowed: Interval(
        min(0, -drift.upper) + PairStep.rounding.lower - ticks,
        max(0, -drift.lower) + PairStep.rounding.upper + ticks),
      events: [old.event, new.event])
  }
}
