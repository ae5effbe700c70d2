// Two guests of the 2015 discussion, judged end to end.

extension Rule {
  static let guests: [Rule] = [.rewriterKeepsTime, .schedclockConstantOffset]

  static let rewriterKeepsTime = Rule(
    "REWRITER-KEEPS-TIME",
    "A guest that does what SLES 10 does, write the MSR, compute the time and write it again, thousands of times, sees "
      + "time carry on, through the old MSR and through the new one.",
    source: "Linux 54750f2cf042 (4.0); discussion of b7e60c5aedd2 (4.2)",
    method:
      "The clock is set to a large value first, so that a restart is a huge step. The guest counts steps back; "
      + "without the master clock only those count that are larger than the write before them took. Readings before "
      + "and after all writes show what thousands of small slips add up to.",
    scenarios: [.rewriter],
    faults: [
      "the restart of Linux 4.2", "… at the 1500th write only", "20 us lost, or won, a write",
    ]
  ) { timeline in
    var findings = Findings()
    var settings: (event: Event, value: UInt64)?
    var msr: Hex = 0
    var thousands: Set<Hex> = []
    var across = 0
    for (index, event) in timeline.history.events.enumerated() {
      if case .vmCreated = event.action { settings = nil }
      if case .setClock(let record) = event.action {
        settings = record.hasRealtime ? nil : (event, record.clock)
      }
      if case .wroteMSR(let index, _, nil) = event.action { msr = index }
      guard case .looped("rewriter", let result) = event.action, let settings else { continue }
      // A write that KVM served shows in the version; the guest's own word for it proves nothing.
      if result.reads >= 2000, result.versions >= 1999 { thousands.insert(msr) }
      if let (before, after) = timeline.readings(beside: index) {
        let seen = findings.observed
        findings.expect(
          difference(after.value, before.value),
          in: timeline.allowedAdvance(from: before, to: after),
          limit: Timeline.widestUseful, at: [before.event, event, after.event],
          "the clock to go on from \(nanoseconds(Int128(before.value))) over \(result.reads) writes of \(msr) by an amount",
          why: "the time that CLOCK_MONOTONIC_RAW counted between the two readings")
        across += findings.observed - seen
      }
      let steps = result.unstable == 0 ? result.backwards : result.beyond
      findings.expect(
        steps == 0, at: [event],
        result.unstable == 0
          ? "no step back in \(result.reads) writes of \(msr)"
          : "no step back larger than the write before it took, in \(result.reads) writes of \(msr)",
        seen: describeSteps(result))
      let elapsed = settings.event.elapsed(to: event).upper
      // The first reading may be of a record from an entry before this one.
      let made = timeline.observations.filter { $0.index == index }.map(\.lead).max() ?? 0
      let slack = share(timeline.rateBound, of: elapsed) + timeline.rounding
      for (reading, name) in [(result.first, "first"), (result.last, "last")] {
        let lead = result.unstable == 0 ? 0 : max(event.width, made)
        findings.expect(
          difference(reading.value, settings.value), in: Interval(0, elapsed + slack + lead),
          at: [settings.event, event],
          "the \(name) time that the guest computed, less the value set (\(settings.value) ns)",
          why: "at most the time since the clock was set")
      }
    }
    let both = thousands.isSuperset(of: [Hex(MSR.systemTimeOld), Hex(MSR.systemTime)])
    guard both || !findings.violations.isEmpty else {
      return .notTested(
        reason:
          "2000 writes that moved the version only through \(thousands.map(\.description).sorted())"
      )
    }
    guard across >= 2 || !findings.violations.isEmpty else {
      return findings.outcome(
        atLeast: .max, "readings before and after thousands of writes of each MSR", in: timeline)
    }
    return findings.outcome(
      atLeast: 8, "loops of thousands of writes, and their ends", in: timeline)
  }

  static let schedclockConstantOffset = Rule(
    "SCHEDCLOCK-CONSTANT-OFFSET",
    "A guest that takes the boot vCPU's first reading off every reading, on every vCPU, late and re-plugged ones too, "
      + "has a clock that is never negative and, where bit 0 is set, never goes back.",
    source:
      "arch/x86/kernel/kvmclock.c, kvm_sched_clock_init() (4.3); discussion of Linux b7e60c5aedd2",
    method:
      "vCPU 0 reads the constant; vCPUs 0 and 1, then a vCPU made late, then vCPU 0 after a re-plug read in ring 3.",
    scenarios: [.schedclock], faults: ["the restart of Linux 4.2", "vCPU 1's record 10 ms behind"]
  ) { timeline in
    var findings = Findings()
    var actors: Set<Actor> = []
    var afterReplug = false
    var replugged = false
    var last: (event: Event, reading: Reading)?
    for (index, event) in timeline.history.events.enumerated() {
      switch event.action {
      case .vmCreated, .setClock: last = nil
      default: break
      }
      if case .replugged(0, _) = event.action { replugged = true }
      guard case .looped("schedclock", let result) = event.action else { continue }
      guard result.unstable == 0 else {
        findings.lacks(
          "without PVCLOCK_TSC_STABLE_BIT the clocks of two vCPUs are only near to each other")
        continue
      }
      actors.insert(event.actor)
      if replugged, event.actor == .vcpu(0) { afterReplug = true }
      findings.expect(
        result.negative == 0 && result.minimum >= 0, at: [event],
        "no reading of \(event.actor) below vcpu0's first one",
        seen:
          "\(result.negative) of \(result.reads) negative, the lowest \(nanoseconds(Int128(result.minimum)))"
      )
      findings.expect(
        result.backwards == 0, at: [event],
        "no step back in \(result.reads) readings of \(event.actor)", seen: describeSteps(result))
      if let last, last.event.ended.raw <= event.began.raw {
        let reading = timeline.observations.first { $0.index == index }
        let mayStep = timeline.mayHaveNewPair(from: last.event, to: event)
        let slack = mayStep ? reading.map { timeline.drift(until: $0) + timeline.rounding } ?? 0 : 0
        findings.expect(
          difference(result.first.value, last.reading.value) >= -slack, at: [last.event, event],
          "\(event.actor) to start at or above \(last.reading.value) ns, where \(last.event.actor) had ended",
          seen: "\(result.first.value) ns")
      }
      last = (event, result.last)
    }
    guard (actors.count >= 3 && afterReplug) || !findings.violations.isEmpty else {
      return findings.outcome(
        atLeast: .max, "results of three vCPUs, one late, and vcpu0 after a re-plug", in: timeline)
    }
    return findings.outcome(
      atLeast: 8, "results on three vCPUs, one late and one re-plugged", in: timeline)
  }
}
