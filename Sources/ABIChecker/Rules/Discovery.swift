// Section A of the catalogue: MSR numbers, CPUID, capability.

extension Rule {
  static let discovery: [Rule] = [.msrIndexList, .cpuidFeatures, .capAdjustClock]

  static let msrIndexList = Rule(
    "MSR-INDEX-LIST",
    "KVM_GET_MSR_INDEX_LIST names all four clock MSRs, so that user space can save and restore them.",
    source: "Documentation/virt/kvm/api.rst, 4.3 KVM_GET_MSR_INDEX_LIST",
    method: "Ask the system descriptor; look for 0x11, 0x12, 0x4b564d00 and 0x4b564d01.",
    scenarios: [.discovery], faults: ["emulated_msrs_all[] without 0x4b564d01"]
  ) { timeline in
    var findings = Findings()
    for event in timeline.history.events {
      guard case .msrIndexList(let indices) = event.action else { continue }
      for msr in [MSR.wallClockOld, MSR.systemTimeOld, MSR.wallClock, MSR.systemTime] {
        findings.expect(
          indices.contains(Hex(msr)), at: [event], "\(Hex(msr)) is in the list",
          seen: "a list of \(indices.count) MSRs without it")
      }
    }
    return findings.outcome(atLeast: 4, "MSRs in the list", in: timeline)
  }

  static let cpuidFeatures = Rule(
    "CPUID-FEATURES",
    "KVM offers its signature at CPUID leaf 0x40000000 and, in EAX of 0x40000001, bits 0 (CLOCKSOURCE), "
      + "3 (CLOCKSOURCE2) and 24 (CLOCKSOURCE_STABLE_BIT), whatever clocksource the host has.",
    source: "Documentation/virt/kvm/x86/cpuid.rst",
    method: "KVM_GET_SUPPORTED_CPUID.",
    scenarios: [.discovery], faults: ["__do_cpuid_func() without CLOCKSOURCE_STABLE_BIT"]
  ) { timeline in
    var findings = Findings()
    for event in timeline.history.events {
      guard case .supportedCPUID(let function, let eax, let ebx, let ecx, let edx) = event.action
      else { continue }
      if function == 0x4000_0000 {
        // "KVMK" "VMKV" "M\0\0\0"
        findings.expect(
          eax.value >= 0x4000_0001 && ebx == 0x4b4d_564b && ecx == 0x564b_4d56 && edx == 0x4d,
          at: [event], "leaf 0x40000000 to reach 0x40000001 and to spell KVMKVMKVM",
          seen: "eax \(eax), ebx \(ebx), ecx \(ecx), edx \(edx)")
      } else if function == 0x4000_0001 {
        for (bit, name): (UInt64, String) in [
          (0, "CLOCKSOURCE"), (3, "CLOCKSOURCE2"), (24, "CLOCKSOURCE_STABLE_BIT"),
        ] {
          findings.expect(
            eax.value >> bit & 1 == 1, at: [event],
            "bit \(bit) (\(name)) of EAX in leaf 0x40000001", seen: "eax \(eax)")
        }
      }
    }
    return findings.outcome(atLeast: 4, "facts of two leaves", in: timeline)
  }

  static let capAdjustClock = Rule(
    "CAP-ADJUST-CLOCK",
    "KVM_CHECK_EXTENSION(KVM_CAP_ADJUST_CLOCK) is the set of flags that KVM_GET_CLOCK may return; it never "
      + "returns another.",
    source: "Documentation/virt/kvm/api.rst, 4.29 KVM_GET_CLOCK; Linux c68dc1b577ea (5.16)",
    method: "Read the capability, then the clock before the first vCPU exists and after it ran.",
    scenarios: [.discovery], everywhere: true, faults: ["get_kvmclock() sets flag 1 << 4"]
  ) { timeline in
    var findings = Findings()
    var allowed: UInt32?
    for event in timeline.history.events {
      switch event.action {
      case .capability("KVM_CAP_ADJUST_CLOCK", let value):
        // Long ago the capability was a plain 1, and there were no flags.
        allowed = value <= 1 ? 0 : UInt32(value)
      case .getClock(let record):
        guard let allowed else { continue }
        findings.expect(
          record.flags & ~allowed == 0, at: [event],
          "flags within the capability's \(Hex(allowed))", seen: "flags \(Hex(record.flags))")
      default: continue
      }
    }
    return findings.outcome(atLeast: 2, "results of KVM_GET_CLOCK", in: timeline)
  }
}
