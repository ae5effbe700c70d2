// MSR numbers, CPUID, capability.

extension Rule {
  static let discovery: [Rule] = [
    .msrIndexList, .cpuidFeatures, .capAdjustClock, .offeredByVersion,
  ]

  static let msrIndexList = Rule(
    "MSR-INDEX-LIST",
    "KVM_GET_MSR_INDEX_LIST names all four clock MSRs, so that user space can save and restore them.",
    sources: [.api("4.3 KVM_GET_MSR_INDEX_LIST")],
    method: "Look for 0x11, 0x12, 0x4b564d00 and 0x4b564d01 in the list of /dev/kvm.",
    scenarios: [.discovery], coverage: [.observations(4, "MSRs in the list")]
  ) { timeline, findings in
    for event in timeline.history.events {
      guard case .msrIndexList(let indices) = event.action else { continue }
      for msr in MSR.clock {
        findings.expect(
          indices.contains(Hex(msr)), at: [event], "\(Hex(msr)) in the list",
          seen: "a list of \(indices.count) MSRs without it")
      }
    }
  }

  static let cpuidFeatures = Rule(
    "CPUID-FEATURES",
    "KVM offers its signature at CPUID leaf 0x40000000 and, in EAX of 0x40000001, bits 0 (CLOCKSOURCE), "
      + "3 (CLOCKSOURCE2) and 24 (CLOCKSOURCE_STABLE_BIT), even if the host's clocksource is not the TSC.",
    sources: [.document("Documentation/virt/kvm/x86/cpuid.rst")],
    method: "Read both leaves with KVM_GET_SUPPORTED_CPUID.",
    scenarios: [.discovery], coverage: [.observations(4, "facts of two leaves")],
    inside: [.observations(4, "facts of two leaves")]
  ) { timeline, findings in
    if timeline.isInside { return findings.expectLeavesInside(of: timeline) }
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
  }

  static let capAdjustClock = Rule(
    "CAP-ADJUST-CLOCK",
    "KVM_GET_CLOCK returns no flag outside of the set that KVM_CHECK_EXTENSION(KVM_CAP_ADJUST_CLOCK) names, neither before "
      + "a vCPU has run nor after.",
    sources: [.api("4.29 KVM_GET_CLOCK"), .commit("Linux c68dc1b577ea (5.16)")],
    method: "Read the capability, then the clock before the first vCPU exists and after it ran.",
    scenarios: [.discovery], everywhere: true,
    coverage: [
      .observations(2, "results of KVM_GET_CLOCK"),
      .each(["before a vCPU has run", "after a vCPU has run"], "times of KVM_GET_CLOCK"),
    ]
  ) { timeline, findings in
    let capabilities = timeline.history.events.lazy.compactMap { event -> Int32? in
      guard case .capability("KVM_CAP_ADJUST_CLOCK", let value) = event.action else { return nil }
      return value
    }
    guard let capability = capabilities.first else { return }
    // Up to Linux 4.8 the capability was a plain 1, and there were no flags.
    let allowed = capability <= 1 ? 0 : UInt32(capability)
    for step in timeline.steps {
      guard case .getClock(let record) = step.event.action else { continue }
      findings.cover(
        step.machine.hasEntered ? "after a vCPU has run" : "before a vCPU has run",
        of: "times of KVM_GET_CLOCK")
      findings.expect(
        record.flags & ~allowed == 0, at: [step.event],
        "flags within the capability's \(Hex(allowed))", seen: "flags \(Hex(record.flags))")
    }
  }
}
