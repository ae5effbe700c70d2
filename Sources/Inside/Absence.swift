/// Why there is no record to read, and what would help.
public struct Absence: Hashable, Sendable {
  public var reason: String
  public var remedy: String

  /// - Parameter hasPages: whether the kernel maps data pages for a vDSO at all.
  public init(_ facts: GuestFacts, hasPages: Bool) {
    self = Self.hypervisor(facts) ?? Self.kernel(facts, hasPages: hasPages)
  }

  private init(_ reason: String, _ remedy: String) {
    self.reason = reason
    self.remedy = remedy
  }

  private static func hypervisor(_ facts: GuestFacts) -> Absence? {
    guard facts.isVirtual else {
      return Absence(
        "this is no virtual machine: CPUID shows no hypervisor",
        "run it in a guest; `kvmclock run` tests a host")
    }
    guard facts.signature == GuestFacts.kvm else {
      let name = facts.signature.flatMap { $0.isEmpty ? nil : "\"\($0)\"" } ?? "unnamed"
      return Absence(
        "the hypervisor is not KVM: its CPUID signature is \(name)",
        "there is no kvmclock here; run it in a KVM guest")
    }
    guard facts.features & 0b1001 != 0 else {
      return Absence(
        "the VMM does not offer kvmclock to this guest: bits 0 and 3 of CPUID leaf 0x40000001 are clear",
        "start the guest with kvmclock (QEMU: -cpu …,+kvmclock)")
    }
    guard facts.features >> 24 & 1 == 1 else {
      return Absence(
        "the VMM does not offer PVCLOCK_TSC_STABLE_BIT (bit 24 of CPUID leaf 0x40000001): the kernel shows "
          + "no record to the vDSO",
        "start the guest with it (QEMU: -cpu …,+kvmclock-stable-bit)")
    }
    return nil
  }

  private static func kernel(_ facts: GuestFacts, hasPages: Bool) -> Absence {
    let options = Set(facts.commandLine.split(separator: " ").map(String.init))
    guard hasPages else {
      return Absence(
        "the kernel maps no data pages for a vDSO (/proc/self/maps has no [vvar])",
        "boot without vdso=0, on a 64-bit kernel with /proc mounted")
    }
    for option in ["no-kvmclock", "no-kvmclock-vsyscall"] where options.contains(option) {
      return Absence(
        "the kernel was booted with \(option)", "boot without it")
    }
    guard facts.availableClocksources.contains("kvm-clock") else {
      return Absence(
        "the kernel does not use kvmclock: its clocksources are "
          + "\(facts.availableClocksources.joined(separator: ", "))",
        "use a kernel with CONFIG_KVM_GUEST")
    }
    guard facts.clocksource != "kvm-clock" else {
      return Absence(
        "the vDSO does not use kvm-clock, though it is the clocksource: the record had no PVCLOCK_TSC_STABLE_BIT at boot",
        "the host needs a stable TSC and clocksource tsc; then boot the guest again")
    }
    return Absence(
      "the page is not there: since boot the vDSO has never used kvm-clock (the clocksource is "
        + "\(facts.clocksource ?? "unknown")), or the record had no PVCLOCK_TSC_STABLE_BIT at boot",
      "as root, for a moment: cd /sys/devices/system/clocksource/clocksource0; echo kvm-clock > "
        + "current_clocksource; echo \(facts.clocksource ?? "tsc") > current_clocksource")
  }
}
