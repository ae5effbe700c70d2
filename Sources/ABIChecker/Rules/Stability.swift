internal import PVClock

// PVCLOCK_TSC_STABLE_BIT, and the old MSR that takes it away.

extension Rule {
  static let stability: [Rule] = [
    .stableWhenMaster, .stableIndepCPUID24, .stableOldMSRVCPU0Clears, .stableOldMSRVCPU1NoEffect,
    .oldMSRKeepsTime, .stableNewMSRRestores,
  ]

  /// Where the master clock is judged by the clocksource; elsewhere a scenario may take it away.
  private static let withMasterClock: [ScenarioName] = [.registration, .guestStopped]

  static let stableWhenMaster = Rule(
    "STABLE-WHEN-MASTER",
    "With a TSC clocksource on the host, vCPUs whose TSCs match and a boot vCPU on the new MSR, bit 0 is set in every "
      + "record and KVM_GET_CLOCK returns KVM_CLOCK_TSC_STABLE; with another clocksource neither is set.",
    sources: [
      .commit("Linux d828199e8444 (3.8)"),
      .msr("flags"),
      .x86("pvclock_update_vm_gtod_copy()"),
    ],
    method:
      "Each vCPU registers and enters; the records and KVM_GET_CLOCK are compared with the clocksource in sysfs. With "
      + "another clocksource than the TSC so is every record that anyone reads, in all scenarios.",
    scenarios: withMasterClock, everywhere: true, coverage: .masterClock(3)
  ) { timeline, findings in
    let host = timeline.history.header.host
    guard let expected = host.clocksourceIsTSC else {
      return findings.lacks("the host's clocksource is unknown: sysfs is not there")
    }
    let why = "the host's clocksource is \(host.clocksource ?? "")"
    guard withMasterClock.contains(where: { $0.rawValue == timeline.history.header.scenario })
    else {
      for record in expected ? [] : timeline.pages {
        findings.expectStable(false, in: record.page, of: record.vcpu, at: [record.event], why: why)
      }
      return
    }
    for step in timeline.steps where step.machine.isWhollyRegistered {
      // TSCs that were moved may no longer match.
      if expected, step.machine.mayBeUnmatched { continue }
      findings.expectMasterClock(
        expected, at: step, why: why)
    }
  }

  static let stableIndepCPUID24 = Rule(
    "STABLE-INDEP-CPUID24",
    "In master-clock mode bit 0 is set in the record even if bit 24 of the guest's CPUID is clear.",
    sources: [
      .guest("the discussion of Linux b7e60c5aedd2 (4.2)"),
      .x86("kvm_guest_time_update()"),
    ],
    method:
      "Two machines, CPUID with bit 24 and without; bit 0 of the record is compared with KVM_GET_CLOCK.",
    scenarios: [.cpuid24],
    coverage: [
      .each(["with bit 24", "without bit 24"], "guests' CPUIDs"),
      .observations(2, "records in master-clock mode"),
    ], needs: [.masterClock]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: Step?
      for step in machine.steps {
        if step.machine.mayHaveNewPair || step.machine.epoch != last?.machine.epoch
          || step.event.isOfTheHost
        {
          last = nil
        }
        if step.newestRecord != nil { last = step }
        guard case .getClock(let record) = step.event.action, let look = last,
          let page = look.newestRecord, case .features(let eax) = look.after.cpuid
        else { continue }
        guard record.isTSCStable else {
          findings.lacks("this host gives no master clock, so bit 0 is clear either way")
          continue
        }
        let bit24 = eax >> 24 & 1 == 1 ? "with bit 24" : "without bit 24"
        findings.expectStable(
          true, in: page, of: look.vcpu ?? 0, at: [look.event, step.event],
          why: "KVM_GET_CLOCK says master clock; CPUID \(bit24)")
        findings.cover(bit24, of: "guests' CPUIDs")
      }
    }
  }

  static let stableOldMSRVCPU0Clears = Rule(
    "STABLE-OLDMSR-VCPU0-CLEARS",
    "When the guest's vCPU 0 registers through the old MSR, the VM leaves master-clock mode: bit 0 is clear in every "
      + "record from its vCPU's next entry on, and KVM_GET_CLOCK no longer returns KVM_CLOCK_TSC_STABLE.",
    sources: [
      .commit("Linux 54750f2cf042 (4.0)"),
      .guest("SLES 10's 2.6.16, which needs a tsc_timestamp younger than a fifth of a jiffy"),
    ],
    method:
      "Both vCPUs register through the new MSR; vCPU 0 writes 0x12; all enter; read the records and KVM_GET_CLOCK.",
    scenarios: [.oldMSR], coverage: .masterClock(3, " after the write"), needs: [.masterClock]
  ) { timeline, findings in
    for registration in timeline.registrations
    where registration.vcpu == 0 && registration.isOldMSR && !registration.wasOnOldMSR {
      guard registration.masterClockBefore == true else {
        findings.lacks("KVM_GET_CLOCK did not show a master clock before the write")
        continue
      }
      for step in registration.steps {
        findings.expectMasterClock(false, at: step, since: registration.event)
      }
    }
  }

  static let stableOldMSRVCPU1NoEffect = Rule(
    "STABLE-OLDMSR-VCPU1-NOEFFECT",
    "The old MSR on a vCPU whose id is not 0 does not end master-clock mode, even if that vCPU is alone in the VM.",
    sources: [.commit("Linux 54750f2cf042 (4.0)"), .x86("kvm_write_system_time()")],
    method:
      "vCPU 1 writes 0x12 beside vCPU 0 on the new MSR, and in a machine without vCPU 0; all enter; read the records and "
      + "KVM_GET_CLOCK.",
    scenarios: [.oldMSRElsewhere],
    coverage: .masterClock(3, " after the write") + [
      .each(["alone", "beside others"], "vCPUs that wrote the old MSR")
    ], needs: [.masterClock]
  ) { timeline, findings in
    for registration in timeline.registrations
    where registration.vcpu != 0 && registration.isOldMSR && !registration.wasOnOldMSR {
      // Before the first entry KVM_GET_CLOCK can't tell, and the clocksource has to.
      let isTSC = timeline.history.header.host.clocksourceIsTSC == true
      guard registration.masterClockBefore ?? (registration.isFirstEntry && isTSC) else {
        findings.lacks("KVM_GET_CLOCK did not show a master clock before the write")
        continue
      }
      for step in registration.steps
      where findings.expectMasterClock(true, at: step, since: registration.event) {
        findings.cover(
          registration.isAlone ? "alone" : "beside others", of: "vCPUs that wrote the old MSR")
      }
    }
  }

  static let stableNewMSRRestores = Rule(
    "STABLE-NEWMSR-RESTORES",
    "When vCPU 0 registers through the new MSR again, master-clock mode returns: bit 0 is set in every record from its "
      + "vCPU's next entry on, and KVM_GET_CLOCK returns KVM_CLOCK_TSC_STABLE.",
    sources: [.commit("Linux 54750f2cf042 (4.0)"), .commit("Linux 1e293d1ae88c (5.10)")],
    method:
      "After the old MSR vCPU 0 writes 0x4b564d01; all enter; read the records and KVM_GET_CLOCK.",
    scenarios: [.oldMSR], coverage: .masterClock(3, " after the write"), needs: [.masterClock]
  ) { timeline, findings in
    for registration in timeline.registrations
    where registration.vcpu == 0 && !registration.isOldMSR && registration.wasOnOldMSR {
      guard registration.hadMasterClock, registration.masterClockBefore == false else {
        findings.lacks("KVM_GET_CLOCK did not show a master clock, and its loss, before the write")
        continue
      }
      for step in registration.steps {
        findings.expectMasterClock(true, at: step, since: registration.event)
      }
    }
  }

  static let oldMSRKeepsTime = Rule(
    "OLDMSR-KEEPS-TIME",
    "Changing between the old and the new MSR keeps the time.",
    sources: [.msr("MSR_KVM_SYSTEM_TIME: same as the new one")],
    method: "Read, wait, write the other MSR, read; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.oldMSR], everywhere: true,
    coverage: [
      .each([MSR.systemTimeOld, MSR.systemTime].map { "\(Hex($0))" }, "MSRs changed to"),
      .observations(2, "changes between the MSRs"),
    ]
  ) { timeline, findings in
    let changes = timeline.readings { step in
      guard let write = step.systemTimeWrite, !write.isByHost, write.record != nil,
        let before = step.before.systemTime, before.isOldMSR != write.isOldMSR
      else { return nil }
      return step.vcpu
    }
    for (before, change, after) in changes {
      let isUseful = findings.expectAdvance(
        from: before, to: after, over: [change], in: timeline,
        why: "the time that CLOCK_MONOTONIC_RAW counted; it does not matter which MSR is written")
      if isUseful, case .wroteMSR(let msr, _, _) = change.action {
        findings.cover("\(msr)", of: "MSRs changed to")
      }
    }
  }
}

/// A registration by the guest.
private struct Registration {
  let vcpu: Int
  let event: Event
  let isOldMSR: Bool
  /// Whether vCPU 0 was on the old MSR before.
  let wasOnOldMSR: Bool
  /// Whether no vCPU had entered before.
  let isFirstEntry: Bool
  /// Whether the machine has no other vCPU.
  let isAlone: Bool
  /// The last flag of `KVM_GET_CLOCK` between the guest's write before and this one.
  let masterClockBefore: Bool?
  /// Whether `KVM_GET_CLOCK` ever had the flag before in this machine.
  let hadMasterClock: Bool
  /// Everything up to the guest's next write of the MSR.
  var steps: ArraySlice<Step>
}

extension Timeline {
  /// The guests' registrations, of each machine up to the first move of a TSC.
  fileprivate var registrations: [Registration] {
    machines.flatMap { Self.registrations(in: $0.steps) }
  }

  private static func registrations(in steps: [Step]) -> [Registration] {
    let steps = steps.prefix { !$0.machine.mayBeUnmatched }
    let writes = steps.indices.filter { steps[$0].systemTimeWrite.map { !$0.isByHost } ?? false }
    let ends = writes.dropFirst() + [steps.endIndex]
    var found: [Registration] = []
    var flags: [Bool] = []
    var start = steps.startIndex
    for (at, end) in zip(writes, ends) {
      let recent = steps[start..<at].compactMap(\.clockFlag)
      flags += recent
      start = at + 1
      guard let write = steps[at].systemTimeWrite, write.record != nil, let vcpu = steps[at].vcpu
      else { continue }
      let before = at > steps.startIndex ? steps[at - 1].machine : nil
      found.append(
        Registration(
          vcpu: vcpu, event: write.event, isOldMSR: write.isOldMSR,
          wasOnOldMSR: before?.isBootVCPUOnOldMSR ?? false,
          isFirstEntry: !(before?.hasEntered ?? false), isAlone: steps[at].machine.vcpus == 1,
          masterClockBefore: recent.last, hadMasterClock: flags.contains(true),
          steps: steps[start..<end]))
    }
    return found
  }
}

extension Step {
  /// KVM_CLOCK_TSC_STABLE of `KVM_GET_CLOCK` after the first entry.
  fileprivate var clockFlag: Bool? {
    if case .getClock = event.action { showsMasterClock } else { nil }
  }
}
