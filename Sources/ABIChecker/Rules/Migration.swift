internal import PVClock

// Section I of the catalogue: a VM is saved, and goes on as another one.

extension Rule {
  static let migration: [Rule] = [
    .migPlainContinues, .migRealtimeContinues, .migStopped, .migOldMSRState, .migTSCRelation,
  ]

  static let migPlainContinues = Rule(
    "MIG-PLAIN-CONTINUES",
    "A VM whose clock and system-time MSRs are carried over to a new VM goes on from the clock saved: no guest reads "
      + "less than it read before, and the pause does not count.",
    source: "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK and 4.30 KVM_SET_CLOCK",
    method:
      "Save KVM_GET_CLOCK, the MSR and TSC offset of each vCPU, and RAM; in a new VM restore them, KVM_SET_CLOCK "
      + "with flags 0; each vCPU reads.",
    scenarios: [.migration],
    faults: [
      "KVM_SET_CLOCK leaves the new VM's clock where it was",
      "KVM_SET_MSRS registers no record on one vCPU: it reads on from the one that was saved",
      "one vCPU's first reading 1 ms below the source's last one",
    ]
  ) { timeline in
    var findings = Findings()
    var compared: Set<Int> = []
    for move in timeline.moves {
      guard let set = move.set, !set.record.hasRealtime else { continue }
      let saved = move.saved.record.clock
      for reading in move.after {
        let narrow = findings.observed
        findings.expect(
          difference(reading.value, saved),
          in: timeline.allowedAdvance(from: set.event, to: reading),
          limit: Timeline.widestUseful, at: [move.saved.event, set.event, reading.event],
          "vcpu\(reading.vcpu ?? 0)'s reading less the clock saved (\(saved) ns)",
          why: "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK; the pause does not "
            + "count")
        if findings.observed > narrow { compared.insert(reading.vcpu ?? 0) }
      }
      timeline.expectNoStepBack(over: move, &findings)
    }
    return findings.outcome(
      atLeast: compared.count >= 2 || !findings.violations.isEmpty ? 4 : .max,
      "readings after a move, against the clock saved and the readings before it",
      in: timeline)
  }

  static let migRealtimeContinues = Rule(
    "MIG-REALTIME-CONTINUES",
    "With the whole structure that KVM_GET_CLOCK returned, its real time too, KVM_SET_CLOCK has the new VM's clock go on "
      + "from the clock saved plus the pause: what CLOCK_REALTIME counted meanwhile.",
    source:
      "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK, KVM_CLOCK_REALTIME; Linux c68dc1b577ea (5.16)",
    method:
      "CLOCK_REALTIME before and after KVM_GET_CLOCK on the old VM and KVM_SET_CLOCK on the new one; each vCPU reads.",
    scenarios: [.migration], since: "5.16",
    faults: [
      "KVM_SET_CLOCK ignores KVM_CLOCK_REALTIME: the pause is lost",
      "KVM_GET_CLOCK's realtime is that of CLOCK_MONOTONIC: the pause is decades",
    ]
  ) { timeline in
    var findings = Findings()
    var compared: Set<Int> = []
    for move in timeline.moves {
      guard let set = move.set, set.record.hasRealtime else { continue }
      guard let then = timeline.realtime(around: move.saved.event),
        let now = timeline.realtime(around: set.event)
      else {
        findings.lacks("CLOCK_REALTIME was set back meanwhile, or not read")
        continue
      }
      let paused = Interval(max(0, now.lower - then.upper), max(0, now.upper - then.lower))
      let saved = move.saved.record.clock
      for reading in move.after {
        let since = timeline.allowedAdvance(from: set.event, to: reading)
        let narrow = findings.observed
        findings.expect(
          difference(reading.value, saved),
          in: Interval(
            paused.lower + since.lower - timeline.rounding,
            paused.upper + since.upper + timeline.rounding),
          limit: Timeline.widestUseful, at: [move.saved.event, set.event, reading.event],
          "vcpu\(reading.vcpu ?? 0)'s reading less the clock saved (\(saved) ns)",
          why: "what CLOCK_REALTIME counted from KVM_GET_CLOCK to KVM_SET_CLOCK, at least "
            + "\(nanoseconds(paused.lower)), and CLOCK_MONOTONIC_RAW since then")
        if findings.observed > narrow { compared.insert(reading.vcpu ?? 0) }
      }
      timeline.expectNoStepBack(over: move, &findings)
    }
    for move in timeline.moves where !move.saved.record.hasRealtime {
      findings.lacks(
        "KVM_GET_CLOCK returned flags \(Hex(move.saved.record.flags)): no CLOCK_REALTIME (4)")
    }
    return findings.outcome(
      atLeast: compared.count >= 2 || !findings.violations.isEmpty ? 4 : .max,
      "readings after a move, against the clock saved and the readings before it",
      in: timeline)
  }

  static let migStopped = Rule(
    "MIG-STOPPED",
    "A guest that KVM_KVMCLOCK_CTRL tells that it was stopped sees PVCLOCK_GUEST_STOPPED after a move, whether it was told "
      + "on the old VM and entered once more, or on the new one after KVM_SET_MSRS.",
    source: "Documentation/virt/kvm/api.rst, 4.76 KVM_KVMCLOCK_CTRL",
    method:
      "The flags in vCPU 0's readings after one move, told before, and in vCPU 1's after the next, told after it.",
    scenarios: [.migration],
    faults: [
      "kvm_setup_guest_pvclock() drops the flag that it finds in the guest's memory",
      "KVM_KVMCLOCK_CTRL refused for a record that the host has registered",
    ]
  ) { timeline in
    var findings = Findings()
    var told: Set<Bool> = []
    for move in timeline.moves {
      for reading in move.after {
        guard let vcpu = reading.vcpu, let page = reading.page, let event = move.told[vcpu] else {
          continue
        }
        told.insert(event.number < move.saved.event.number)
        findings.expect(
          page.flags.contains(.guestStopped), at: [event, move.saved.event, reading.event],
          "bit 1 set in vcpu\(vcpu)'s first record after the move",
          seen: "flags \(Hex(UInt64(page.flags.rawValue)))")
      }
    }
    for event in timeline.history.events {
      guard case .toldStopped(let vcpu, let errno) = event.action, errno.isError else { continue }
      findings.expect(
        false, at: [event],
        "KVM_KVMCLOCK_CTRL to succeed on vcpu\(vcpu), whose record is registered",
        seen: "\(errno)")
    }
    return findings.outcome(
      atLeast: told.count == 2 || !findings.violations.isEmpty ? 2 : .max,
      "guests told before a move and after one", in: timeline)
  }

  static let migOldMSRState = Rule(
    "MIG-OLDMSR-STATE",
    "That vCPU 0 uses the old MSR, for which KVM gives up the master clock, is not among what can be saved: after a move "
      + "the clock may show PVCLOCK_TSC_STABLE_BIT until the guest writes again.",
    source:
      "arch/x86/kvm/x86.c, kvm_write_system_time(), boot_vcpu_runs_old_kvmclock; Linux 54750f2cf042 (4.0)",
    method:
      "vCPU 0 on 0x12 without the master clock; move, KVM_SET_MSRS of 0x12; look at bit 0 before and after its own "
      + "next write.",
    scenarios: [.migration],
    faults: ["KVM_SET_MSRS of 0x12 takes the master clock away: another value is shown"],
    isObservation: true
  ) { timeline in
    var findings = Findings()
    let hadMaster = timeline.observations.contains { $0.isStable }
    for move in timeline.moves where move.wasOnOldMSR {
      guard let first = move.first(of: 0), let own = move.afterOwnWrite
      else { continue }
      guard hadMaster else {
        findings.lacks("this host gives no master clock, so bit 0 is clear either way")
        continue
      }
      func bit(_ reading: Observation) -> String { reading.isStable ? "set" : "clear" }
      return .observed(
        value: "after the move bit 0 is \(bit(first)), "
          + "after vcpu0's own next write of 0x12 \(bit(own))")
    }
    return findings.outcome(atLeast: .max, "a move of a guest on the old MSR", in: timeline)
  }

  static let migTSCRelation = Rule(
    "MIG-TSC-RELATION",
    "Over a move on which the guest's TSC runs on and the real time is carried over, the clock as a function of the "
      + "guest's TSC is off by the time between KVM's readings of the clocks.",
    source: "Documentation/virt/kvm/devices/vcpu.rst, KVM_VCPU_TSC_OFFSET (how to migrate)",
    method:
      "Convert the TSC of the first reading after the move by the last record before it; compare with the reading.",
    scenarios: [.migration], since: "5.16",
    faults: ["a slower KVM_SET_CLOCK: another value is shown"], isObservation: true
  ) { timeline in
    var findings = Findings()
    var errors: [String] = []
    for move in timeline.moves where move.set?.record.hasRealtime == true {
      for reading in move.after {
        guard let vcpu = reading.vcpu, case .read(_, _, let seen, _) = reading.event.action,
          move.first(of: vcpu)?.index == reading.index,
          let page = move.source.last(where: { $0.vcpu == vcpu })?.page
        else { continue }
        guard let offset = move.savedOffsets[vcpu], move.offsets[vcpu] == offset else {
          findings.lacks("vcpu\(vcpu)'s TSC offset could not be carried over")
          continue
        }
        let error = difference(reading.value, page.systemTime(atTSC: seen.tsc))
        errors.append("vcpu\(vcpu) \(error > 0 ? "+" : "")\(nanoseconds(error))")
      }
    }
    if errors.count >= 2 {
      return .observed(
        value: "the clock at the same guest TSC, after the move less before it: "
          + errors.joined(separator: ", "))
    }
    for move in timeline.moves where !move.saved.record.hasRealtime {
      findings.lacks(
        "KVM_GET_CLOCK returned flags \(Hex(move.saved.record.flags)): no CLOCK_REALTIME (4)")
    }
    return findings.outcome(atLeast: .max, "a move with the real time", in: timeline)
  }
}

extension Timeline {
  /// No reading after the move below any reading before it, on whatever vCPU.
  fileprivate func expectNoStepBack(over move: Move, _ findings: inout Findings) {
    let saved = move.saved
    for before in move.source {
      let isExact =
        before.isStable && saved.record.isTSCStable
        && !mayHaveNewPair(from: before.event, to: saved.event)
      let age = Int128(saved.event.ended.raw) - Int128(before.machineBegan.raw)
      let slack = before.lead + (isExact ? 0 : share(rateBound, of: age) + rounding)
      for reading in move.after {
        findings.expect(
          difference(reading.value, before.value) >= -slack, at: [before.event, reading.event],
          "vcpu\(reading.vcpu ?? 0)'s reading after the move at or above \(before.value) ns, "
            + "which vcpu\(before.vcpu ?? 0) read before it"
            + (slack > 0 ? ", less \(nanoseconds(slack))" : ""),
          seen: "\(reading.value) ns")
      }
    }
  }
}
