// The two guests of the 2015 discussion: SLES 10, and Linux since 4.3.

extension Rule {
  static let guests: [Rule] = [.rewriterKeepsTime, .schedclockConstantOffset]

  static let rewriterKeepsTime = Rule(
    "REWRITER-KEEPS-TIME",
    "A guest that does as SLES 10 does, write the MSR, compute the time and write it again, thousands of times, sees "
      + "time carry on, through the old MSR and through the new one.",
    sources: [
      .guest(
        "SLES 10's 2.6.16, which writes the MSR again and again; discussion of Linux b7e60c5aedd2 (4.2)"
      ),
      .commit("Linux 54750f2cf042 (4.0)"),
    ],
    method:
      "The clock is set to a large value first, so that a restart is a huge step. The guest counts steps back; "
      + "without the master clock only those count that are larger than the write before them took. Readings before "
      + "and after all writes show the sum of thousands of small slips.",
    scenarios: [.rewriter],
    coverage: [
      .each([Hex(MSR.systemTimeOld).description, Hex(MSR.systemTime).description], thousands),
      .observations(8, "loops of thousands of writes, and readings around and in them"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      let readings = Dictionary(grouping: machine.steps.flatMap(\.observations), by: \.vcpu)
      for step in machine.steps {
        guard case .looped("rewriter", let result) = step.event.action,
          let msr = step.before.systemTime?.msr, let setting = step.machine.setting,
          !setting.record.hasRealtime
        else { continue }

        // The guest compared each reading with the one before it.
        let isStable = result.unstable == 0
        findings.expect(
          (isStable ? result.backwards : result.beyond) == 0, at: [step.event],
          isStable
            ? "no step back in \(result.reads) writes of \(msr)"
            : "no step back larger than the write before it took, in \(result.reads) writes of \(msr)",
          seen: describeSteps(result))

        // Its first and its last reading show the time since the clock was set; the loop's bracket is as wide as the loop.
        for reading in step.observations {
          findings.expect(
            difference(reading.value, setting.record.clock),
            in: timeline.allowedAdvance(since: setting.event, at: reading),
            at: [setting.event, step.event],
            "\(reading.name) in the loop, less the value set (\(setting.record.clock) ns),",
            why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK")
        }

        // From the reading before all writes to the one after them the clock advanced as it should.
        guard let own = readings[step.vcpu],
          let (before, after) = Self.readings(in: own, beside: step)
        else { continue }
        let isCounted = findings.expectAdvance(
          from: before, to: after, over: [step.event], in: timeline,
          why: "the time that CLOCK_MONOTONIC_RAW counted over \(result.reads) writes of \(msr)")
        // A write that KVM served shows in the version.
        if isCounted, result.reads >= 2000, result.versions >= 1999 {
          findings.cover(msr.description, of: thousands)
        }
      }
    }
  }

  private static let thousands =
    "MSRs with 2000 writes that moved the version, between two readings"

  static let schedclockConstantOffset = Rule(
    "SCHEDCLOCK-CONSTANT-OFFSET",
    "With bit 0 set, a guest that subtracts the boot vCPU's first reading from every reading, on every vCPU, late and "
      + "re-plugged ones too, has a clock that is never negative and never goes back.",
    sources: [
      .guest(
        "Linux since 4.3, arch/x86/kernel/kvmclock.c, kvm_sched_clock_init(); discussion of Linux b7e60c5aedd2 (4.2)"
      )
    ],
    method:
      "vCPU 0 reads the constant; vCPUs 0 and 1, then a vCPU made late, then vCPU 0 after a re-plug read in ring 3.",
    scenarios: [.schedclock],
    coverage: [
      .observations(8, "loops of readings, and their order"),
      .everyVCPU("vCPUs that read in a loop"),
      .each(["made late", "re-plugged"], "vCPUs that read in a loop after they were"),
    ],
    needs: [.masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      var replugged: Set<Int> = []
      var last: Observation?
      for step in machine.steps {
        if case .replugged(let vcpu, _) = step.event.action { replugged.insert(vcpu) }
        guard case .looped("schedclock", let result) = step.event.action, let vcpu = step.vcpu
        else { continue }
        guard result.unstable == 0 else {
          findings.lacks(
            "without PVCLOCK_TSC_STABLE_BIT the clocks of two vCPUs are only near to each other")
          continue
        }

        // The guest compared each reading with the constant and with the reading before it.
        findings.expect(
          result.negative == 0 && result.minimum >= 0, at: [step.event],
          "no reading of vcpu\(vcpu) below vcpu0's first one",
          seen:
            "\(result.negative) of \(result.reads) negative, the lowest \(nanoseconds(Int128(result.minimum)))"
        )
        findings.expect(
          result.backwards == 0, at: [step.event],
          "no step back in \(result.reads) readings of vcpu\(vcpu)", seen: describeSteps(result))

        // One loop after the other, whoever ran them.
        if let last, let first = step.observations.first, last.epoch == first.epoch,
          last.event.ended.raw <= step.event.began.raw
        {
          findings.expectNoStepBack(from: last, to: first, in: timeline)
        }
        last = step.observations.last ?? last

        findings.cover(vcpu: vcpu, of: "vCPUs that read in a loop")
        let kinds = "vCPUs that read in a loop after they were"
        if step.after.isLate { findings.cover("made late", of: kinds) }
        if replugged.contains(vcpu) { findings.cover("re-plugged", of: kinds) }
      }
    }
  }
}

extension Rule {
  /// Of one vCPU's readings the last one before a step and the first one after it, on one setting of the clock.
  private static func readings(
    in own: [Observation], beside step: Step
  ) -> (before: Observation, after: Observation)? {
    // By halves: there may be as many steps as readings.
    func count(where precedes: (Observation) -> Bool) -> Int {
      var (low, high) = (0, own.count)
      while low < high {
        let middle = (low + high) / 2
        if precedes(own[middle]) { low = middle + 1 } else { high = middle }
      }
      return low
    }
    let before = count { $0.index < step.index } - 1
    let after = count { $0.index <= step.index }
    guard before >= 0, after < own.count, own[before].epoch == own[after].epoch else { return nil }
    return (own[before], own[after])
  }
}
