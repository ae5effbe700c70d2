internal import ABIChecker

extension Fault {
  static let discovery: [Fault] = [
    Fault(
      "LIST-WITHOUT-NEW-MSR", breaks: ["MSR-INDEX-LIST"],
      "KVM_GET_MSR_INDEX_LIST does not name 0x4b564d01: user space would not save it",
      .result { action in
        guard case .msrIndexList(let indices) = action else { return }
        action = .msrIndexList(indices: indices.filter { $0 != Hex(MSR.systemTime) })
      }),
    Fault(
      "CPUID-WITHOUT-STABLE", breaks: ["CPUID-FEATURES"],
      "CPUID does not offer KVM_FEATURE_CLOCKSOURCE_STABLE_BIT",
      .result { action in
        guard case .supportedCPUID(let function, let eax, let ebx, let ecx, let edx) = action,
          function.value == 0x4000_0001
        else { return }
        action = .supportedCPUID(
          function: function, eax: Hex(eax.value & ~(1 << 24)), ebx: ebx, ecx: ecx, edx: edx)
      }),
    Fault(
      "GET-FLAG-16", breaks: ["CAP-ADJUST-CLOCK"],
      also: ["GETCLOCK-FIELDS", "GETCLOCK-NONMASTER-FIELDS"],
      because: "they know the flags that may be there, too",
      "KVM_GET_CLOCK returns a flag that KVM_CAP_ADJUST_CLOCK does not name",
      .result { action in
        guard case .getClock(var record) = action else { return }
        record.flags |= 1 << 4
        action = .getClock(record)
      }),
    Fault(
      "NEW-MSR-GATED-BY-OLD-BIT", breaks: ["ENFORCE-PV-GP"],
      "the new MSRs need the feature bit of the old ones"
    ) { $0.mayUse = { features, _ in features & 1 != 0 } },
    Fault(
      "CPUID-ALWAYS-ENFORCED", breaks: ["NOENFORCE-WORKS"],
      "a guest that is not confined gets #GP for what CPUID does not offer"
    ) {
      $0.write = { clock, access, _ in
        let vcpu = clock.vcpus[access.vcpu]!
        let bit: UInt32 = access.isOld ? 1 << 0 : 1 << 3
        return !access.byHost && !vcpu.isConfined && (vcpu.features ?? 0) & bit == 0 ? .fault : nil
      }
    },
    Fault(
      "FILTER-LETS-READS-PASS", breaks: ["MSR-FILTER-GP"],
      "a filter that denies an MSR denies no RDMSR",
      .result { action in
        if case .readMSR(let msr, let value, .some) = action {
          action = .readMSR(msr: msr, value: value, fault: nil)
        }
      }),
  ]
}
