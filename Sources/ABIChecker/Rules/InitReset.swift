internal import PVClock

// INIT takes a vCPU's record away, not the VM's time.

extension Rule {
  static let initReset: [Rule] = [
    .initClearsSystime, .initFreezesPage, .initReregisterKeepsTime,
  ]

  private static let reset = Source.x86("kvm_vcpu_reset() and kvmclock_reset()")

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
    sources: [.commit("Linux, \"KVM: x86: release kvmclock page on reset\""), reset],
    method:
      "A vCPU gets INIT from another one; the host sets the clock and both enter; the first one's record keeps every byte "
      + "while the other's changes.",
    scenarios: [.initReset],
    coverage: [.observations(1, "records of vCPUs that INIT reset")], needs: [.irqChip]
  ) { timeline, findings in
    findings.expectFrozen(in: timeline) { how, _ in
      if case .reset(let reset) = how { reset.isINIT } else { false }
    }
  }

  static let initReregisterKeepsTime = Rule(
    "INIT-REREGISTER-KEEPS-TIME",
    "On any vCPU that registers again after INIT the clock carries on.",
    sources: [
      .msr("MSR_KVM_SYSTEM_TIME_NEW"),
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
