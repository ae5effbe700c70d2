internal import PVClock

// The questions that many rules ask of two values of the clock.

extension Timeline {
  /// An interval wider than this hides steps that would hurt a guest; the scenario is run again.
  static let widestUseful: Int128 = 10_000_000

  /// What `reading` may show, less the value that `set` gave the clock: the time since.
  func allowedAdvance(since set: Event, at reading: Observation) -> Interval {
    let elapsed = set.elapsed(to: reading.event)
    let slack = share(rateBound, of: elapsed.upper) + rounding
    return Interval(max(0, elapsed.lower - slack), elapsed.upper + slack + reading.lead)
  }

  /// By how much `later` may be below `earlier`: not at all on one pair of the master clock, and else by what the record
  /// before may run ahead, and what a new pair sets right.
  func allowedStepBack(from earlier: Observation, to later: Observation) -> Int128 {
    let isExact =
      earlier.isStable && later.isStable
      && !mayHaveNewPair(from: earlier.event, to: later.event)
    return earlier.lead + (isExact ? 0 : drift(until: later) + rounding)
  }
}

extension Findings {
  /// One clock runs through from `before` to `after`: it advances by what CLOCK_MONOTONIC_RAW counted.
  ///
  /// - Returns: whether it counted.
  @discardableResult
  mutating func expectAdvance(
    from before: Observation, to after: Observation, over events: [Event] = [],
    in timeline: Timeline,
    why: @autoclosure () -> String = "the time that CLOCK_MONOTONIC_RAW counted",
    fits: @autoclosure () -> Bool = false
  ) -> Bool {
    expect(
      difference(after.value, before.value),
      in: timeline.allowedAdvance(from: before, to: after), limit: Timeline.widestUseful,
      at: [before.event] + events + [after.event],
      "the advance of \(after.name) from \(nanoseconds(Int128(before.value)))", why: why(),
      fits: fits())
  }

  /// After `set` gave the clock `value`, `reading` shows that value plus the time since.
  ///
  /// - Returns: whether it counted.
  @discardableResult
  mutating func expectValue(
    _ value: UInt64, since set: Event, at reading: Observation, in timeline: Timeline,
    why: @autoclosure () -> String = "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK"
  ) -> Bool {
    expect(
      difference(reading.value, value), in: timeline.allowedAdvance(since: set, at: reading),
      limit: Timeline.widestUseful, at: [set, reading.event],
      "\(reading.name) less the value set (\(value) ns)", why: why())
  }

  /// `later`, made after `earlier`, is not below it.
  mutating func expectNoStepBack(
    from earlier: Observation, to later: Observation, in timeline: Timeline
  ) {
    expectNoStepBack(
      of: later.name, from: earlier.value, to: later.value,
      slack: timeline.allowedStepBack(from: earlier, to: later),
      at: [earlier.event, later.event], before: "\(earlier.name) before it")
  }

  /// A clock goes on from what it gave before, and back by `slack` at most. A step is modulo 2^64.
  mutating func expectNoStepBack(
    of clock: String, from earlier: UInt64, to later: UInt64, slack: Int128, at events: [Event],
    before: String = "what it was before"
  ) {
    let step = difference(later, earlier)
    expect(
      step >= -slack, at: events,
      "\(clock) at or above \(nanoseconds(Int128(earlier)))"
        + (slack > 0 ? " minus \(nanoseconds(slack))" : "") + ", \(before)",
      seen: "\(nanoseconds(Int128(later))), a step of \(nanoseconds(step))")
  }

  /// PVCLOCK_TSC_STABLE_BIT of a record.
  mutating func expectStable(
    _ expected: Bool, in page: ClockPage, of vcpu: Int, at events: [Event], why: String? = nil
  ) {
    expect(
      page.flags.contains(.tscStable) == expected, at: events,
      "bit 0 \(expected ? "set" : "clear") in vcpu\(vcpu)'s record" + (why.map { ": \($0)" } ?? ""),
      seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
  }

  /// KVM_CLOCK_TSC_STABLE of `KVM_GET_CLOCK`.
  mutating func expectStable(
    _ expected: Bool, in record: ClockRecord, at events: [Event], why: String? = nil
  ) {
    expect(
      record.isTSCStable == expected, at: events,
      "KVM_CLOCK_TSC_STABLE \(expected ? "set" : "clear")" + (why.map { ": \($0)" } ?? ""),
      seen: "flags \(Hex(record.flags))")
  }
}

extension Timeline {
  /// For each step that `separates` names a vCPU of, that vCPU's last reading before it and its first one after it, on
  /// one setting of the clock.
  func readings(
    aroundSteps separates: (Step) -> Int?
  ) -> [(before: Observation, separator: Event, after: Observation)] {
    var found: [(before: Observation, separator: Event, after: Observation)] = []
    for machine in machines {
      var last: [Int: Observation] = [:]
      var waiting: [Int: (before: Observation, separator: Event)] = [:]
      for step in machine.steps {
        if let vcpu = separates(step), let before = last[vcpu] {
          waiting[vcpu] = (before, step.event)
        }
        for reading in step.observations {
          guard let vcpu = reading.vcpu else { continue }
          if let (before, separator) = waiting.removeValue(forKey: vcpu),
            before.epoch == reading.epoch
          {
            found.append((before, separator, reading))
          }
          last[vcpu] = reading
        }
      }
    }
    return found
  }
}

extension Findings {
  /// The clock carries on across every step that `separates` names a vCPU of. Covers "vCPUs".
  mutating func expectTimeKept(
    in timeline: Timeline, why: String, across separates: (Step) -> Int?
  ) {
    for (before, separator, after) in timeline.readings(aroundSteps: separates) {
      if expectAdvance(from: before, to: after, over: [separator], in: timeline, why: why) {
        cover(vcpu: before.vcpu)
      }
    }
  }
}
