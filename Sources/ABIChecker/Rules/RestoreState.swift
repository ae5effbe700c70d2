internal import PVClock

// What a save does not carry along, and what INIT takes from a VM that was restored.

extension Rule {
  static let restoreState: [Rule] = [.restoreInit, .restorePendingFlag]

  static let restoreInit = Rule(
    "RESTORE-INIT",
    "INIT takes from a vCPU of a restored VM the record that the host registered, as it does one that the guest registered: the "
      + "system-time MSR is 0 and the record is no longer written. The clock that the host set goes on, on this vCPU and on the "
      + "others.",
    sources: [
      .commit("Linux, \"KVM: x86: release kvmclock page on reset\""),
      .implementation("arch/x86/kvm/x86.c, kvm_vcpu_reset() and kvmclock_reset()"),
      .document("Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK (a request of the VM)"),
    ],
    method:
      "In a new VM restore memory, system-time MSRs and clock; each vCPU goes to KVM_MP_STATE_UNINITIALIZED and "
      + "back; all read; INIT from another vCPU; KVM_GET_MSRS; set the clock, enter, look at both records; register again and read.",
    scenarios: [.restoreState],
    coverage: [
      .each(["MSR", "record", "clock of the vCPU", "clock of another"], "what INIT did"),
      .everyVCPU("vCPUs that got INIT"), .observations(8, "facts after INIT"),
    ], needs: [.irqChip]
  ) { timeline, findings in
    for machine in timeline.machines {
      var walk = InitWalk()
      for step in machine.steps { walk.take(step, &findings, timeline) }
    }
  }

  static let restorePendingFlag = Rule(
    "RESTORE-PENDING-FLAG",
    "A KVM_KVMCLOCK_CTRL that no entry followed is no part of what a save takes along: bit 1 is clear in the record that was saved, "
      + "and in the new VM's records until the host tells the guest there; then it is set.",
    sources: [
      .document("Documentation/virt/kvm/api.rst, 4.70 KVM_KVMCLOCK_CTRL"),
      .implementation(
        "arch/x86/kvm/x86.c, kvm_set_guest_paused() (pvclock_set_guest_stopped_request)"),
      .guest("VMMs whose snapshots lost the flag: Firecracker 5322 and 5494"),
    ],
    method:
      "KVM_KVMCLOCK_CTRL, then no entry; save memory, MSRs and clock; restore them in a new VM; enter and look at the records; "
      + "KVM_KVMCLOCK_CTRL there, enter and look again.",
    scenarios: [.restoreState],
    coverage: [
      .each(["saved", "restored", "told again"], "records"), .everyVCPU("vCPUs that were told"),
      .observations(6, "records of guests that were told just before the save"),
    ], needs: [.clockControl]
  ) { timeline, findings in
    var saved: [Int: Event] = [:]
    for machine in timeline.machines {
      // Told here, and whether the vCPU entered since.
      var told: [Int: (event: Event, hasEntered: Bool)] = [:]
      for step in machine.steps {
        if step.isEntry, let vcpu = step.vcpu { told[vcpu]?.hasEntered = true }
        if case .toldStopped(let vcpu, .none) = step.event.action {
          told[vcpu] = (step.event, false)
        }
        if step.event.action == .saved {
          saved = told.filter { !$0.value.hasEntered }.mapValues(\.event)
          break
        }
        guard case .page(let vcpu, let address, let page) = step.event.action,
          step.after.record == address.value
        else { continue }
        let isSet = page.flags.contains(.guestStopped)
        let seen = "flags \(Hex(UInt64(page.flags.rawValue)))"
        if let now = told[vcpu] {
          let isTold = now.hasEntered && saved[vcpu] != nil
          guard isTold || (!now.hasEntered && saved[vcpu] == nil) else { continue }
          findings.expect(
            isSet == isTold, at: [now.event, step.event],
            isTold
              ? "bit 1 set in vcpu\(vcpu)'s record: its guest was told again in the new VM"
              : "bit 1 clear in vcpu\(vcpu)'s record: it has not entered since KVM_KVMCLOCK_CTRL",
            seen: seen)
          findings.cover(isTold ? "told again" : "saved", of: "records")
        } else if let before = saved[vcpu] {
          findings.expect(
            !isSet, at: [before, step.event],
            "bit 1 clear in vcpu\(vcpu)'s record: KVM_KVMCLOCK_CTRL was called before the save, and not in this VM",
            seen: seen)
          findings.cover("restored", of: "records")
        } else {
          continue
        }
        findings.cover(vcpu: vcpu, of: "vCPUs that were told")
      }
    }
  }
}

/// Follows INIT of vCPUs whose records the host registered.
private struct InitWalk {
  private struct Target {
    let reset: Event
    let record: UInt64
    var frozen: (event: Event, page: ClockPage)?
    /// Since then the clock was set, and the vCPU entered.
    var isDue = false
  }

  private var targets: [Int: Target] = [:]
  private var setting: Event?

  mutating func take(_ step: Step, _ findings: inout Findings, _ timeline: Timeline) {
    if case .replugged(let vcpu, let how) = step.event.action, how.isINIT,
      let write = step.before.systemTime, write.isByHost, let record = write.record
    {
      targets[vcpu] = Target(reset: step.event, record: record)
    }
    if case .setClock = step.event.action { setting = step.event }
    guard !targets.isEmpty else { return }
    if let vcpu = step.vcpu { look(at: step, vcpu, &findings) }
    for reading in step.observations { judge(reading, step, &findings, timeline) }
  }

  private mutating func look(at step: Step, _ vcpu: Int, _ findings: inout Findings) {
    guard let target = targets[vcpu], step.after.systemTime == nil else { return }
    if step.isEntry, let setting, let frozen = target.frozen, setting.number > frozen.event.number {
      targets[vcpu]?.isDue = true
    }
    switch step.event.action {
    case .hostReadMSR(_, let msr, let value) where MSR.isSystemTime(msr):
      findings.expect(
        value == 0, at: [target.reset, step.event],
        "0 in vcpu\(vcpu)'s system-time MSR after INIT", seen: "\(value)")
      cover("MSR", vcpu, &findings)
    case .page(_, let address, let page) where address.value == target.record:
      guard let frozen = target.frozen, target.isDue else {
        targets[vcpu]?.frozen = target.frozen ?? (step.event, page)
        return
      }
      findings.expect(
        page == frozen.page, at: [target.reset, frozen.event, step.event],
        "vcpu\(vcpu)'s record as it was after INIT: \(describe(frozen.page))", seen: describe(page))
      cover("record", vcpu, &findings)
    default: return
    }
  }

  /// The first vCPU with INIT stands for the others' clocks.
  private func judge(
    _ reading: Observation, _ step: Step, _ findings: inout Findings, _ timeline: Timeline
  ) {
    guard let setting = step.machine.setting, !setting.record.hasRealtime, let vcpu = reading.vcpu,
      findings.expectValue(
        setting.record.clock, since: setting.event, at: reading, in: timeline,
        why:
          "the time that CLOCK_MONOTONIC_RAW counted since KVM_SET_CLOCK; INIT resets a vCPU and not the VM's clock"
      )
    else { return }
    if targets[vcpu] != nil {
      cover("clock of the vCPU", vcpu, &findings)
    } else {
      findings.cover("clock of another", of: "what INIT did")
    }
  }

  private func cover(_ what: String, _ vcpu: Int, _ findings: inout Findings) {
    findings.cover(what, of: "what INIT did")
    findings.cover(vcpu: vcpu, of: "vCPUs that got INIT")
  }
}
