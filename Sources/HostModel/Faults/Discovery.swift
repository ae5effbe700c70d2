extension Fault {
  static let discovery: [Fault] = [
    Fault(
      "NEW-MSR-GATED-BY-OLD-BIT", breaks: ["ENFORCE-PV-GP", "ENFORCE-PV-HOST"],
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
  ]
}
