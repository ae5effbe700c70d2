internal import PVClock

// A vCPU that is made while the VM runs.

extension Rule {
  static let hotplug: [Rule] = [.hotplugStable, .hotplugKeepsTime, .hotplugNoResnap]

  static let hotplugStable = Rule(
    "HOTPLUG-STABLE",
    "A vCPU that is made while the VM runs does not end master-clock mode: bit 0 stays set in every record and is set in "
      + "the new one, and KVM_GET_CLOCK still returns KVM_CLOCK_TSC_STABLE.",
    sources: [
      .commit("Linux d828199e8444 (3.8)"),
      .x86("kvm_synchronize_tsc() and kvm_track_tsc_matching()"),
    ],
    method:
      "Two vCPUs are made late, one after the other; every reading and every record from then on.",
    scenarios: [.hotplug], coverage: .masterClock(8, " after a vCPU was added"),
    needs: [.masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      var isMasterClock = false
      var late: Event?
      for step in machine.steps.prefix(while: { !$0.machine.mayBeUnmatched }) {
        if step.machine.isBootVCPUOnOldMSR { (isMasterClock, late) = (false, nil) }
        if let late {
          findings.expectMasterClock(true, at: step, since: late, why: "a vCPU was added")
        }
        if case .getClock(let record) = step.event.action { isMasterClock = record.isTSCStable }
        guard case .vcpuCreated = step.event.action, step.after.isLate else { continue }
        guard isMasterClock else {
          findings.lacks("KVM_GET_CLOCK did not show a master clock before")
          continue
        }
        late = step.event
      }
    }
  }

  static let hotplugKeepsTime = Rule(
    "HOTPLUG-KEEPS-TIME",
    "A vCPU that is made while the VM runs reads the VM's one clock: its readings continue those of the other vCPUs "
      + "before it, and theirs after it continue its own.",
    sources: [
      .api("4.29 KVM_GET_CLOCK, KVM_CLOCK_TSC_STABLE"),
      .commit("Linux 53fafdbb8b21 (5.5)"),
    ],
    method:
      "Set the clock far from 0; a running vCPU reads, another one is made, registers and reads, the first one reads "
      + "again; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.hotplug],
    coverage: [
      .each(["before it", "after it"], "other vCPUs' readings"), .different(2, "late vCPUs"),
      .observations(4, "readings beside a late vCPU's"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var late: Set<Int> = []
      var last: Observation?
      for step in machine.steps {
        if case .vcpuCreated(let vcpu) = step.event.action, step.after.isLate { late.insert(vcpu) }
        for reading in step.observations {
          guard let vcpu = reading.vcpu else { continue }
          defer { last = reading }
          guard let before = last, let earlier = before.vcpu, before.epoch == reading.epoch,
            earlier != vcpu, late.contains(vcpu) || late.contains(earlier),
            before.event.ended.raw <= reading.event.began.raw
          else { continue }
          let isUseful = findings.expectAdvance(
            from: before, to: reading, in: timeline,
            why:
              "the time that CLOCK_MONOTONIC_RAW counted since \(before.name); all vCPUs have one clock"
          )
          guard isUseful else { continue }
          for (one, place) in [(vcpu, "before it"), (earlier, "after it")] where late.contains(one)
          {
            findings.cover("vcpu\(one)", of: "late vCPUs")
            findings.cover(place, of: "other vCPUs' readings")
          }
        }
      }
    }
  }

  static let hotplugNoResnap = Rule(
    "HOTPLUG-NO-RESNAP",
    "A vCPU whose TSC is in step with the others' leaves the master clock's pair alone when it is made: the other records "
      + "keep their tsc_timestamp and system_time, and the new one has the same system_time.",
    sources: [.commit("Linux c52ffadc65e2 (6.7), which mends 7f187922ddf6")],
    method:
      "Read a record in master-clock mode; a vCPU is made and registers; all enter; read that record again, and the new "
      + "one.",
    scenarios: [.hotplug],
    coverage: [
      .everyVCPU("records"), .observations(4, "records after a vCPU was made"),
    ], needs: [.masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      // The records with the current pair, those from before the late vCPU, and that vCPU.
      var current: [Int: (event: Event, page: ClockPage)] = [:]
      var before: [Int: (event: Event, page: ClockPage)] = [:]
      var late: Int?
      var hasLateEntered = false
      for step in machine.steps.prefix(while: { !$0.machine.mayBeUnmatched }) {
        if case .vcpuCreated(let vcpu) = step.event.action, step.after.isLate {
          (before, current, late, hasLateEntered) = (current, [:], vcpu, false)
          continue
        }
        if step.isEntry, step.vcpu == late { hasLateEntered = true }
        if step.mayReplacePair(except: late) { (before, current, late) = ([:], [:], nil) }
        guard case .page(let vcpu, _, _) = step.event.action, let page = step.newestRecord else {
          continue
        }
        guard page.flags.contains(.tscStable) else {
          findings.lacks(
            "the VM is not in master-clock mode: bit 0 is clear in vcpu\(vcpu)'s record")
          (before, current, late) = ([:], [:], nil)
          continue
        }
        current[vcpu] = (step.event, page)
        let reference = vcpu == late ? before.min { $0.key < $1.key }?.value : before[vcpu]
        guard let late, hasLateEntered, let old = reference else { continue }
        // The late vCPU's tsc_timestamp is in its own TSC.
        findings.expect(
          page.systemTime == old.page.systemTime
            && (vcpu == late || page.tscTimestamp == old.page.tscTimestamp),
          at: [old.event, step.event],
          "vcpu\(vcpu)'s record to hold the pair from before vcpu\(late) was made: \(describe(old.page))",
          seen: describe(page))
        findings.cover(vcpu: vcpu, of: "records")
      }
    }
  }
}

extension Step {
  /// Whether the event may replace the master clock's pair, unless it is the first entry of `late`.
  fileprivate func mayReplacePair(except late: Int?) -> Bool {
    if case .setClock = event.action { return true }
    let isFirstEntry = isEntry && vcpu == late && before.lastEntry == nil
    let isOldMSR = systemTimeWrite?.isOldMSR ?? false
    return machine.mayHaveNewPair && (!isFirstEntry || isOldMSR)
  }
}
