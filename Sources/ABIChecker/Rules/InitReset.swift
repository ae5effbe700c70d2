internal import PVClock

// INIT takes a vCPU's record away, not the VM's time.

extension Rule {
  static let initReset: [Rule] = [
    .initClearsSystime, .initFreezesPage, .initReregisterKeepsTime,
  ]

  private static let reset = Source.implementation(
    "arch/x86/kvm/x86.c, kvm_vcpu_reset() and kvmclock_reset()")

  static let initClearsSystime = Rule(
    "INIT-CLEARS-SYSTIME",
    "INIT resets a vCPU's system-time MSR to 0, as the guest and the host read it, through both MSR numbers.",
    sources: [reset],
    method:
      "A vCPU with a registered record gets INIT from another one; the host and then the guest read 0x12 and 0x4b564d01.",
    scenarios: [.initReset],
    coverage: [
      .each(
        ["guest", "host"].flatMap { reader in
          [MSR.systemTimeOld, MSR.systemTime].map { "\(Hex($0)) by the \(reader)" }
        }, "reads of the MSR"),
      .everyVCPU("vCPUs that got INIT"), .observations(4, "values of the MSR after INIT"),
    ], needs: [.irqChip]
  ) { timeline, findings in
    for step in timeline.steps {
      guard let reset = step.after.reset, reset.how.isINIT, reset.hadRecord else { continue }
      let read: (msr: Hex, value: Hex, reader: String)? =
        switch step.event.action {
        case .readMSR(let msr, let value, nil): (msr, value, "guest")
        case .hostReadMSR(_, let msr, let value): (msr, value, "host")
        default: nil
        }
      guard let (msr, value, reader) = read, MSR.isSystemTime(msr), let vcpu = step.vcpu else {
        continue
      }
      findings.expect(
        value == 0, at: [reset.event, step.event], "0 in vcpu\(vcpu)'s system-time MSR after INIT",
        seen: "\(value) read by the \(reader) through \(msr)")
      findings.cover("\(msr) by the \(reader)", of: "reads of the MSR")
      findings.cover(vcpu: vcpu, of: "vCPUs that got INIT")
    }
  }

  static let initFreezesPage = Rule(
    "INIT-FREEZES-PAGE",
    "After INIT KVM no longer writes the vCPU's record.",
    sources: [reset],
    method:
      "A vCPU gets INIT from another one; the host sets the clock and both enter; the first one's record keeps every byte "
      + "while the other's changes.",
    scenarios: [.initReset],
    coverage: [.observations(1, "records of vCPUs that INIT reset")], needs: [.irqChip]
  ) { timeline, findings in
    findings.expectFrozen(in: timeline) { how in
      if case .reset(let reset) = how { reset.isINIT } else { false }
    }
  }

  static let initReregisterKeepsTime = Rule(
    "INIT-REREGISTER-KEEPS-TIME",
    "On any vCPU that registers again after INIT the clock carries on.",
    sources: [
      .document("Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW"),
      .commit("Linux b7e60c5aedd2 (4.2), which broke it for vCPU 0"),
    ],
    method: "Read, wait, INIT from another vCPU, register, read; compare with CLOCK_MONOTONIC_RAW.",
    scenarios: [.initReset],
    coverage: [.everyVCPU(), .observations(2, "registrations after INIT")], needs: [.irqChip]
  ) { timeline, findings in
    findings.expectTimeKept(
      in: timeline,
      why: "the time that CLOCK_MONOTONIC_RAW counted; INIT resets a vCPU and not the VM's clock"
    ) { step in
      guard case .replugged(let vcpu, let how) = step.event.action, how.isINIT else { return nil }
      return vcpu
    }
  }
}

extension Findings {
  /// A record that its vCPU gave up as `concerns` says keeps every byte over a setting of the clock and an entry of that
  /// vCPU, while a live record changes: proof that records were updated.
  fileprivate mutating func expectFrozen(
    in timeline: Timeline, _ concerns: (RecordOwner.GivenUp) -> Bool
  ) {
    for machine in timeline.machines {
      // For each address the last record read there; and the numbers of the settings in which live records changed.
      var last: [UInt64: (step: Step, page: ClockPage)] = [:]
      var updated: Set<Int> = []
      var pairs: [(before: Event, old: ClockPage, after: Step, new: ClockPage)] = []
      for step in machine.steps {
        guard case .page(_, let address, let page) = step.event.action else { continue }
        defer { last[address.value] = (step, page) }
        guard let (before, old) = last[address.value], let setting = step.machine.setting?.index,
          before.machine.setting?.index != setting
        else { continue }
        switch (before.owner, step.owner) {
        case (.live?, .live?) where old != page: updated.insert(setting)
        case (.givenUp(_, _, let earlier)?, .givenUp(_, let how, let write)?)
        where earlier.number == write.number && concerns(how):
          pairs.append((before.event, old, step, page))
        default: continue
        }
      }
      for (before, old, after, new) in pairs {
        guard case .givenUp(let vcpu, _, _) = after.owner, let setting = after.machine.setting,
          case .page(_, let address, _) = after.event.action
        else { continue }
        guard old != new || updated.contains(setting.index) else {
          lacks("no live record changed either, so nothing shows that updates were made")
          continue
        }
        guard old != new || timeline.entered(vcpu, between: setting.event, and: after.event) else {
          lacks("vcpu\(vcpu) was not entered after the clock was set")
          continue
        }
        expect(
          old == new, at: [before, after.event],
          "the record at \(address) as the guest left it: \(describe(old))", seen: describe(new))
      }
    }
  }
}
