internal import PVClock

// Section I of the catalogue: a vCPU that is made while the VM runs.

extension Rule {
  static let hotplug: [Rule] = [.hotplugStable, .hotplugKeepsTime, .hotplugNoResnap]

  static let hotplugStable = Rule(
    "HOTPLUG-STABLE",
    "A vCPU that is made while the VM runs does not take the master clock away: bit 0 stays set in every record and is "
      + "set in the new one, and KVM_GET_CLOCK goes on to say KVM_CLOCK_TSC_STABLE.",
    source: "arch/x86/kvm/x86.c, kvm_synchronize_tsc() and kvm_track_tsc_matching()",
    method: "Two vCPUs come late, one after the other; every reading and every look from then on.",
    scenarios: [.hotplug],
    faults: ["kvm_synchronize_tsc() does not match a new vCPU with those that run"]
  ) { timeline in
    var findings = Findings()
    var newest = NewestPair()
    var wasStable = false
    var late: Event?
    for event in timeline.history.events {
      let hadEntered = newest.hasEntered
      _ = newest.take(event)
      var shown: (flag: Bool, what: String, flags: UInt32)?
      switch (event.action, event.actor) {
      case (.vcpuCreated, _) where hadEntered && wasStable: late = event
      case (.vcpuCreated, _) where hadEntered:
        findings.lacks("KVM_GET_CLOCK did not say that the VM had a master clock before")
      // Other rules have what takes the master clock away.
      case (.vmCreated, _), (.setTSCOffset, _): (wasStable, late) = (false, nil)
      case (.wroteMSR(let msr, _, _), _) where MSR.isOldSystemTime(msr):
        (wasStable, late) = (false, nil)
      case (.getClock(let record), _):
        wasStable = record.isTSCStable
        shown = (record.isTSCStable, "KVM_CLOCK_TSC_STABLE set", record.flags)
      case (.page(let vcpu, _, let page), _) where newest.isHeld(by: vcpu):
        shown = page.stableFlag(vcpu)
      case (.read(_, _, let reading, true), .vcpu(let vcpu)): shown = reading.page.stableFlag(vcpu)
      default: continue
      }
      guard let late, let shown else { continue }
      findings.expect(
        shown.flag, at: [late, event], "\(shown.what) after a vCPU was added",
        seen: "flags \(Hex(shown.flags))")
    }
    return findings.outcome(
      atLeast: 8, "records and KVM_GET_CLOCK after a vCPU was added", in: timeline)
  }

  static let hotplugKeepsTime = Rule(
    "HOTPLUG-KEEPS-TIME",
    "A vCPU that is made while the VM runs finds the VM's one clock: its first reading is on one line with the others' "
      + "before and after it.",
    source: "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK; Linux 53fafdbb8b21 (5.5)",
    method:
      "The clock set far from 0; a running vCPU reads, another one is made, registers and reads, the first one reads "
      + "again; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.hotplug],
    faults: ["the clock restarts, or steps, when a vCPU is made or registers first"]
  ) { timeline in
    var findings = Findings()
    var entered = false
    var late: Set<Int> = []
    var last: Observation?
    var next = 0
    for (index, event) in timeline.history.events.enumerated() {
      if case .vmCreated = event.action { (entered, late) = (false, []) }
      if case .vcpuCreated(let vcpu) = event.action, entered { late.insert(vcpu) }
      if case .vcpu = event.actor { entered = true }
      while next < timeline.observations.count, timeline.observations[next].index == index {
        let reading = timeline.observations[next]
        next += 1
        guard let vcpu = reading.vcpu else { continue }
        defer { last = reading }
        guard let before = last, let earlier = before.vcpu, before.epoch == reading.epoch,
          earlier != vcpu, late.contains(vcpu) || late.contains(earlier),
          before.event.ended.raw <= reading.event.began.raw
        else { continue }
        findings.expect(
          difference(reading.value, before.value),
          in: timeline.allowedAdvance(from: before, to: reading), limit: Timeline.widestUseful,
          at: [before.event, reading.event],
          "vcpu\(vcpu)'s clock to go on from vcpu\(earlier)'s \(nanoseconds(Int128(before.value))) by an amount",
          why: "the time that CLOCK_MONOTONIC_RAW counted; all vCPUs have one clock")
      }
    }
    return findings.outcome(atLeast: 4, "readings beside a late vCPU's", in: timeline)
  }

  static let hotplugNoResnap = Rule(
    "HOTPLUG-NO-RESNAP",
    "A vCPU whose TSC is in step with the others' leaves the master clock's pair alone when it is made: the records hold "
      + "the same tsc_timestamp and system_time as before.",
    source: "Linux c52ffadc65e2 (6.7), which mends 7f187922ddf6",
    method:
      "A record in master-clock mode; a vCPU is made and registers; all enter; that record again, and the new one.",
    scenarios: [.hotplug], since: "6.7",
    faults: ["kvm_track_tsc_matching() requests a new pair whenever the master clock is on"]
  ) { timeline in
    var findings = Findings()
    var newest = NewestPair()
    var last: [Int: (event: Event, page: ClockPage)] = [:]
    var before: [Int: (event: Event, page: ClockPage)] = [:]
    var late: Int?
    var hasLateEntered = false
    for event in timeline.history.events {
      let hadEntered = newest.hasEntered
      let mayBeNew = newest.take(event)
      if mayBeNew, late == nil || event.actor != .vcpu(late ?? 0) || isOldMSR(event) {
        if hadEntered, case .vcpuCreated(let vcpu) = event.action {
          (before, late, hasLateEntered) = (last, vcpu, false)
        } else {
          (last, before, late) = ([:], [:], nil)
        }
      }
      if let late, event.actor == .vcpu(late) { hasLateEntered = true }
      switch event.action {
      case .vmCreated, .setClock: (last, before, late) = ([:], [:], nil)
      case .page(let vcpu, _, let page) where newest.isHeld(by: vcpu):
        guard page.flags.contains(.tscStable) else {
          findings.lacks(
            "the VM is not in master-clock mode: bit 0 is clear in vcpu\(vcpu)'s record")
          (last, before, late) = ([:], [:], nil)
          continue
        }
        last[vcpu] = (event, page)
        guard let late, hasLateEntered, let reference = before.keys.min(),
          let old = before[vcpu] ?? (vcpu == late ? before[reference] : nil)
        else { continue }
        // The late vCPU may have a TSC of its own.
        findings.expect(
          page.systemTime == old.page.systemTime
            && (vcpu == late || page.tscTimestamp == old.page.tscTimestamp),
          at: [old.event, event],
          "vcpu\(vcpu)'s record to hold the pair from before vcpu\(late) was made: \(describe(old.page))",
          seen: describe(page))
      default: continue
      }
    }
    return findings.outcome(atLeast: 4, "records after a vCPU was made", in: timeline)
  }
}

private func isOldMSR(_ event: Event) -> Bool {
  if case .wroteMSR(let msr, _, _) = event.action { MSR.isOldSystemTime(msr) } else { false }
}

extension ClockPage {
  /// Bit 0, what it should be, and all flags.
  fileprivate func stableFlag(_ vcpu: Int) -> (flag: Bool, what: String, flags: UInt32) {
    (flags.contains(.tscStable), "bit 0 set in vcpu\(vcpu)'s record", UInt32(flags.rawValue))
  }
}
