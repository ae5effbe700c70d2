internal import PVClock

// More vCPUs than fit in one page of records, up to as many as KVM takes.

extension Rule {
  static let manyVCPUs: [Rule] = [.manyVCPUsRegister, .manyVCPUsOrder, .manyVCPUsSetclock]

  private static let msr = Source.msr("MSR_KVM_SYSTEM_TIME_NEW")

  static let manyVCPUsRegister = Rule(
    "MANY-VCPUS-REGISTER",
    "In a VM with many vCPUs each one's registration is served before its next instruction.",
    sources: [msr, .api("4.7 KVM_CREATE_VCPU, KVM_CAP_MAX_VCPUS")],
    method:
      "Each of 65 vCPUs, or of as many as asked for, registers a record and reads it without an exit between; the records "
      + "stand side by side, 64 bytes each, as Linux has them.",
    scenarios: [.many], coverage: [.everyVCPU(), .observations(1, "registrations")]
  ) { timeline, findings in
    for step in timeline.steps {
      guard let write = step.registration, let vcpu = step.vcpu,
        case .read(_, _, let reading, let settled) = step.event.action
      else { continue }
      let page = reading.page
      findings.expect(
        settled && page.version > 0 && page.version % 2 == 0 && page.scale.isNormalized,
        at: [write.event, step.event],
        "vcpu\(vcpu) to read an even version above 0 and a multiplier of at least 2^31",
        seen: describe(page))
      findings.cover(vcpu: vcpu)
    }
    findings.tellNumberOfVCPUs()
  }

  static let manyVCPUsOrder = Rule(
    "MANY-VCPUS-ORDER",
    "In a VM with many vCPUs that read the clock one after another each reads no less than the one before it; without the "
      + "master clock, no less than that less the amount by which the record before ran ahead.",
    sources: [.msr("flags, bit 0")],
    method: "One vCPU after another registers and reads, then again in the opposite order.",
    scenarios: [.many],
    coverage: [.everyVCPU(), .observations(1, "readings after another vCPU's")]
  ) { timeline, findings in
    for machine in timeline.machines {
      var last: Observation?
      for reading in machine.steps.lazy.flatMap(\.observations) where reading.vcpu != nil {
        defer { last = reading }
        guard let before = last, before.vcpu != reading.vcpu, before.epoch == reading.epoch,
          before.event.ended.raw <= reading.event.began.raw
        else { continue }
        findings.expectNoStepBack(from: before, to: reading, in: timeline)
        findings.cover(vcpu: before.vcpu)
        findings.cover(vcpu: reading.vcpu)
      }
    }
    findings.tellNumberOfVCPUs()
  }

  static let manyVCPUsSetclock = Rule(
    "MANY-VCPUS-SETCLOCK",
    "In a VM with many vCPUs one KVM_SET_CLOCK sets the clock of every one of them.",
    sources: [.api("4.30 KVM_SET_CLOCK")],
    method: "Set the clock once; each vCPU enters and reads the value plus the time since.",
    scenarios: [.many],
    coverage: [
      .everyVCPU(), .count(1, "settings that reached every vCPU"),
      .observations(1, "readings after the setting"),
    ]
  ) { timeline, findings in
    for machine in timeline.machines {
      var reached: (setting: Int, vcpus: Set<Int>) = (-1, [])
      for step in machine.steps {
        guard let setting = step.machine.setting, !setting.record.hasRealtime else { continue }
        for reading in step.observations {
          guard let vcpu = reading.vcpu, setting.event.ended.raw <= reading.event.began.raw,
            findings.expectValue(
              setting.record.clock, since: setting.event, at: reading, in: timeline)
          else { continue }
          findings.cover(vcpu: vcpu)
          if reached.setting != setting.index { reached = (setting.index, []) }
          if reached.vcpus.insert(vcpu).inserted, reached.vcpus.count == step.machine.vcpus {
            findings.count("settings that reached every vCPU")
          }
        }
      }
    }
    findings.tellNumberOfVCPUs()
  }
}

extension Findings {
  fileprivate mutating func tellNumberOfVCPUs() {
    detail = "\(covered["vCPUs"]?.count ?? 0) vCPUs"
  }
}
