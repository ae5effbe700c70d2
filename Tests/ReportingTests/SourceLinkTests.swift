import ABIChecker
import Testing

@testable import Reporting

/// Sources are linked to what they name. No network is needed: names are held against what the kernel's documents have.
@Suite struct SourceLinkTests {
  /// The sections that rules name, as Linux 6.1 has them.
  static let sections = [
    "4.3 KVM_GET_MSR_INDEX_LIST", "4.4 KVM_CHECK_EXTENSION", "4.7 KVM_CREATE_VCPU",
    "4.8 KVM_GET_DIRTY_LOG", "4.10 KVM_RUN", "4.19 KVM_SET_MSRS", "4.29 KVM_GET_CLOCK",
    "4.30 KVM_SET_CLOCK", "4.35 KVM_SET_USER_MEMORY_REGION", "4.55 KVM_SET_TSC_KHZ",
    "4.56 KVM_GET_TSC_KHZ", "4.70 KVM_KVMCLOCK_CTRL", "4.80 KVM_SET_DEVICE_ATTR",
    "4.97 KVM_X86_SET_MSR_FILTER", "4.117 KVM_CLEAR_DIRTY_LOG", "4.126 KVM_XEN_HVM_SET_ATTR",
    "4.128 KVM_XEN_VCPU_SET_ATTR",
    "8.28 KVM_CAP_ENFORCE_PV_FEATURE_CPUID", "8.29 KVM_CAP_DIRTY_LOG_RING", "8.30 KVM_CAP_XEN_HVM",
  ]
  static let documents: Set = [
    "virt/kvm/api", "virt/kvm/x86/msr", "virt/kvm/x86/cpuid", "virt/kvm/x86/hypercalls",
    "virt/kvm/devices/vcpu", "admin-guide/mm/userfaultfd",
  ]

  static let sources = Rule.all.flatMap { rule in rule.sources.map { (rule: rule.id, source: $0) } }

  @Test func everyDocumentAndSectionIsOneThatLinuxHas() {
    for (rule, source) in Self.sources {
      for match in source.text.matches(of: /Documentation\/(\S+?)\.rst/) {
        #expect(Self.documents.contains(String(match.1)), "\(rule): \(source.text)")
      }
      guard let api = source.text.firstMatch(of: /api\.rst, (.*)/) else { continue }
      for part in api.1.matches(of: /\d+\.\d+[ ,][^ ,;()"\/]*/) {
        #expect(Self.sections.contains(String(part.0)), "\(rule): \(source.text)")
      }
      #expect(
        source.address?.contains("api.html#kvm-") == true, "\(rule): \(source.text) has no section")
    }
  }

  @Test func aCommitHasItsIdOrItsSubject() {
    for (rule, source) in Self.sources where source.kind == .commit {
      let isNamed = source.text.hasPrefix("Linux, \"")
      let isGiven = source.text.prefixMatch(of: /Linux [0-9a-f]{10,40} \(\d\.\d+(\.\d+)?\)/) != nil
      #expect(isNamed || isGiven, "\(rule): \(source.text)")
      #expect(isNamed || source.address != nil, "\(rule): \(source.text)")
    }
    for known in KnownDeviation.table {
      #expect(
        LinkedPiece.pieces(of: known.source).contains { $0.address != nil }, "\(known.source)")
    }
  }

  @Test func theTextIsWhole() {
    for (_, source) in Self.sources {
      #expect(LinkedPiece.pieces(of: source.text).map(\.text).joined() == source.text)
    }
  }

  @Test(arguments: [
    (
      "Documentation/virt/kvm/api.rst, 4.30 KVM_SET_CLOCK (migration)",
      "https://docs.kernel.org/virt/kvm/api.html#kvm-set-clock"
    ),
    (
      "Documentation/virt/kvm/api.rst, 4.8 KVM_GET_DIRTY_LOG",
      "https://docs.kernel.org/virt/kvm/api.html#kvm-get-dirty-log-vm-ioctl"
    ),
    (
      "Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW",
      "https://docs.kernel.org/virt/kvm/x86/msr.html"
    ),
    ("Linux c68dc1b577ea (5.16)", "https://git.kernel.org/linus/c68dc1b577ea"),
    (
      "arch/x86/include/asm/pvclock-abi.h, struct pvclock_wall_clock",
      "https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/arch/x86/include/asm/pvclock-abi.h"
    ),
  ])
  func aNameLeadsToItsPage(text: String, address: String) {
    #expect(LinkedPiece.pieces(of: text).compactMap(\.address) == [address])
  }

  @Test(arguments: ["QEMU 3f2a05b31ee9", "target/i386/kvm/kvm.c", "xen/include/public/xen.h", ""])
  func whatIsNotOfLinuxIsNoLink(text: String) {
    #expect(LinkedPiece.pieces(of: text).allSatisfy { $0.address == nil })
  }

  @Test func reportsHaveTheLinks() {
    let report = Samples.report
    let address = "https://docs.kernel.org/virt/kvm/x86/msr.html"
    #expect(HTMLReport(report).text.contains("<a href=\"\(address)\">Documentation/"))
    #expect(MarkdownReport(report).text.contains("](\(address))"))
    #expect(Catalogue.markdown().contains("[Documentation/virt/kvm/x86/msr.rst](\(address))"))
  }
}

extension Source {
  fileprivate var address: String? { LinkedPiece.pieces(of: text).compactMap(\.address).first }
}
