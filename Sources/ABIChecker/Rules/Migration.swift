internal import PVClock

// A VM is saved, and goes on as another one.

extension Rule {
  static let migration: [Rule] = [
    .migPlainContinues, .migRealtimeContinues, .migStopped, .migOldMSRState, .migTSCRelation,
  ]

  private static let readAfterMove: [Coverage] = [
    .observations(4, "readings after a move, against the clock saved and the readings before it"),
    .everyVCPU("vCPUs that read after a move"),
  ]

  static let migPlainContinues = Rule(
    "MIG-PLAIN-CONTINUES",
    "A VM whose clock and system-time MSRs are carried over to a new VM goes on from the clock saved: no guest reads "
      + "less than it read before, and the pause does not count.",
    sources: [.api("4.29 KVM_GET_CLOCK and 4.30 KVM_SET_CLOCK")],
    method:
      "Save KVM_GET_CLOCK, the MSR and TSC offset of each vCPU, and RAM; in a new VM restore them, KVM_SET_CLOCK "
      + "with flags 0; each vCPU reads.",
    scenarios: [.migration],
    coverage: readAfterMove
  ) { timeline, findings in
    for move in timeline.moves where !move.set.record.hasRealtime {
      for reading in move.after {
        let advance = timeline.allowedAdvance(since: move.set.event, at: reading)
        findings.expectAfterMove(
          move, reading, in: advance,
          why:
            "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK; the pause does not count"
        )
      }
      findings.expectNoStepBack(over: move, in: timeline)
    }
  }

  static let migRealtimeContinues = Rule(
    "MIG-REALTIME-CONTINUES",
    "With the whole structure that KVM_GET_CLOCK returned, its real time too, KVM_SET_CLOCK has the new VM's clock go on "
      + "from the clock saved plus the pause as CLOCK_REALTIME counted it.",
    sources: [
      .api("4.30 KVM_SET_CLOCK, KVM_CLOCK_REALTIME"), .commit("Linux c68dc1b577ea (5.16)"),
    ],
    method:
      "CLOCK_REALTIME before and after KVM_GET_CLOCK on the old VM and KVM_SET_CLOCK on the new one; each vCPU reads.",
    scenarios: [.migration],
    coverage: readAfterMove,
    needs: [.masterClock, .clockDetails]
  ) { timeline, findings in
    for move in timeline.moves where move.set.record.hasRealtime {
      guard let then = timeline.realtime(around: move.saved.event),
        let now = timeline.realtime(around: move.set.event)
      else {
        findings.lacks("CLOCK_REALTIME was set back meanwhile, or not read")
        continue
      }
      let paused = Interval(max(0, now.lower - then.upper), max(0, now.upper - then.lower))
      for reading in move.after {
        let advance = timeline.allowedAdvance(since: move.set.event, at: reading)
        findings.expectAfterMove(
          move, reading,
          in: Interval(
            paused.lower + advance.lower - timeline.rounding,
            paused.upper + advance.upper + timeline.rounding),
          why:
            "the pause, at least \(nanoseconds(paused.lower)) as CLOCK_REALTIME counted from KVM_GET_CLOCK to "
            + "KVM_SET_CLOCK, and the time that CLOCK_MONOTONIC_RAW counted since then")
      }
      findings.expectNoStepBack(over: move, in: timeline)
    }
    findings.lacksRealtime(in: timeline.moves)
  }

  static let migStopped = Rule(
    "MIG-STOPPED",
    "A guest that KVM_KVMCLOCK_CTRL tells that it was stopped sees PVCLOCK_GUEST_STOPPED after a move, whether it was told "
      + "on the old VM and entered once more, or on the new one after KVM_SET_MSRS.",
    sources: [.api("4.70 KVM_KVMCLOCK_CTRL")],
    method:
      "The flags in vCPU 0's readings after one move, told before, and in vCPU 1's after the next, told after it.",
    scenarios: [.migration],
    coverage: [
      .observations(2, "readings of guests that were told"),
      .each(["before a move", "after a move"], "guests that were told"),
    ],
    needs: [.clockControl]
  ) { timeline, findings in
    for move in timeline.moves {
      for reading in move.after {
        guard let vcpu = reading.vcpu, let page = reading.page, let told = move.told[vcpu]
        else { continue }
        let isBefore = told.number < move.saved.event.number
        findings.cover(isBefore ? "before a move" : "after a move", of: "guests that were told")
        findings.expect(
          page.flags.contains(.guestStopped), at: [told, move.saved.event, reading.event],
          "bit 1 set in vcpu\(vcpu)'s first record after the move",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
      }
    }
    for step in timeline.steps where step.after.record != nil {
      guard case .toldStopped(let vcpu, let errno) = step.event.action, errno.isError
      else { continue }
      findings.expect(
        false, at: [step.event],
        "KVM_KVMCLOCK_CTRL to succeed on vcpu\(vcpu), whose record is registered",
        seen: "\(errno)")
    }
  }

  static let migOldMSRState = Rule(
    "MIG-OLDMSR-STATE",
    "The fact that vCPU 0 uses the old MSR, for which KVM gives up the master clock, cannot be saved: after a move the "
      + "clock may show PVCLOCK_TSC_STABLE_BIT until the guest writes again.",
    sources: [
      .x86("kvm_write_system_time(), boot_vcpu_runs_old_kvmclock"),
      .commit("Linux 54750f2cf042 (4.0)"),
    ],
    method:
      "vCPU 0 on 0x12 without the master clock; move, KVM_SET_MSRS of 0x12; read bit 0 before and after its own "
      + "next write.",
    scenarios: [.migration],
    coverage: [.count(1, "moves of a guest on the old MSR")],
    needs: [.masterClock], isObservation: true
  ) { timeline, findings in
    let hadMaster = timeline.observations.contains { $0.isStable }
    for move in timeline.moves where move.wasOnOldMSR {
      guard let first = move.first(of: 0), let own = move.afterOwnWrite else { continue }
      guard hadMaster else {
        findings.lacks("this host gives no master clock, so bit 0 is clear either way")
        continue
      }
      func bit(_ reading: Observation) -> String { reading.isStable ? "set" : "clear" }
      findings.report(
        "after the move bit 0 is \(bit(first)), after vcpu0's own next write of 0x12 \(bit(own))")
    }
  }

  static let migTSCRelation = Rule(
    "MIG-TSC-RELATION",
    "After a move on which the guest's TSC runs on and the real time is carried over, the clock as a function of the "
      + "guest's TSC is off by the time between KVM's readings of the clocks.",
    sources: [
      .document("Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET (how to migrate)")
    ],
    method:
      "Convert the TSC of the first reading after the move by the last record before it; compare with the reading.",
    scenarios: [.migration],
    coverage: [.count(2, "vCPUs after a move with the real time")],
    needs: [.masterClock, .clockDetails], isObservation: true
  ) { timeline, findings in
    var errors: [String] = []
    for move in timeline.moves where move.set.record.hasRealtime {
      for vcpu in Set(move.after.compactMap(\.vcpu)).sorted() {
        guard let reading = move.first(of: vcpu), let tsc = reading.tsc,
          let page = move.source.last(where: { $0.vcpu == vcpu })?.page
        else { continue }
        guard move.withSameTSCOffset.contains(vcpu) else {
          findings.lacks("vcpu\(vcpu)'s TSC offset could not be carried over")
          continue
        }
        let error = difference(reading.value, page.systemTime(atTSC: tsc))
        errors.append("vcpu\(vcpu) \(error > 0 ? "+" : "")\(nanoseconds(error))")
      }
    }
    if errors.count >= 2 {
      findings.report(
        "the clock at the same guest TSC, after the move less before it: "
          + errors.joined(separator: ", "))
    }
    findings.lacksRealtime(in: timeline.moves)
  }
}

extension Findings {
  /// A reading after the move, less the clock saved.
  fileprivate mutating func expectAfterMove(
    _ move: Move, _ reading: Observation, in allowed: Interval, why: @autoclosure () -> String
  ) {
    let saved = move.saved.record.clock
    let counted = expect(
      difference(reading.value, saved), in: allowed, limit: Timeline.widestUseful,
      at: [move.saved.event, move.set.event, reading.event],
      "\(reading.name) less the clock saved (\(saved) ns)", why: why())
    if counted { cover(vcpu: reading.vcpu, of: "vCPUs that read after a move") }
  }

  /// No reading after the move is below any reading before it, on any vCPU.
  fileprivate mutating func expectNoStepBack(over move: Move, in timeline: Timeline) {
    for before in move.source {
      // The clock saved may be below this reading by so much, and the new machine goes on from the clock saved.
      let slack = timeline.allowedStepBack(from: before, to: move.saved.observation)
      for reading in move.after {
        expectNoStepBack(
          of: "\(reading.name) after the move", from: before.value, to: reading.value, slack: slack,
          at: [before.event, reading.event],
          before: "\(before.name) before it")
      }
    }
  }

  fileprivate mutating func lacksRealtime(in moves: [Move]) {
    for move in moves where !move.saved.record.hasRealtime {
      lacks("KVM_GET_CLOCK returned flags \(Hex(move.saved.record.flags)): no CLOCK_REALTIME (4)")
    }
  }
}
