import Glibc
import Testing

@testable import KVM

@Suite struct KVMErrorTests {
  @Test func `an error reads as request, meaning, name, number and remedy`() {
    let error = KVMError(request: "KVM_CREATE_VM", errno: EPERM, remedy: "Run as root.")
    #expect(
      error.description
        == "KVM_CREATE_VM failed: Operation not permitted (EPERM, errno 1). Remedy: Run as root.")
  }

  @Test func `an error without a remedy ends after the number`() {
    let error = KVMError(request: "KVM_GET_REGS", errno: EINVAL)
    #expect(error.remedy == nil)
    #expect(error.description == "KVM_GET_REGS failed: Invalid argument (EINVAL, errno 22)")
  }

  @Test func `a number without a known name is shown as a number`() {
    #expect(KVMError(request: "KVM_RUN", errno: 999).errnoName == "E999")
  }

  @Test func `where 0 is success, a positive result is an error too`() throws {
    try checkZero("KVM_GET_CLOCK", 0)
    let error = #expect(throws: KVMError.self) { try checkZero("KVM_GET_CLOCK", 1) }
    #expect(error?.result == 1 && error?.errno == 0)
    #expect(error?.description == "KVM_GET_CLOCK returned 1, where 0 is success")
    let refused = #expect(throws: KVMError.self) { try checkZero("KVM_GET_CLOCK", -EFAULT) }
    #expect(refused == KVMError(request: "KVM_GET_CLOCK", errno: EFAULT))
  }

  @Test func `only a negative result is an error`() throws {
    #expect(try check("KVM_CHECK_EXTENSION", 0) == 0)
    #expect(try check("KVM_CHECK_EXTENSION", 7) == 7)
    let error = #expect(throws: KVMError.self) { try check("KVM_CHECK_EXTENSION", -EBADF) }
    #expect(error == KVMError(request: "KVM_CHECK_EXTENSION", errno: EBADF))
  }

  @Test(arguments: [
    ("KVM_RUN", EIO, "KVM has killed the VM"),
    ("KVM_GET_CLOCK", EIO, "KVM has killed the VM"),
    ("KVM_GET_TSC_KHZ", EIO, "TSC of this host is not stable"),
    ("KVM_RUN", EFAULT, "keep it mapped"),
    ("KVM_CREATE_VM", EPERM, "run as root"),
    ("KVM_CREATE_VM", EBUSY, "Another hypervisor"),
    ("KVM_CREATE_VM", EINVAL, "use type 0"),
    ("KVM_CREATE_VM", EMFILE, "ulimit -n"),
    ("KVM_CREATE_VCPU", EEXIST, "another id"),
    ("KVM_CREATE_VCPU", EINVAL, "KVM_CAP_MAX_VCPU_ID"),
    ("KVM_CREATE_IRQCHIP", EINVAL, "before the first vCPU"),
    ("KVM_SET_USER_MEMORY_REGION", EEXIST, "overlaps"),
    ("KVM_SET_USER_MEMORY_REGION", EINVAL, "whole pages"),
    ("KVM_GET_DIRTY_LOG", ENOENT, "logs dirty pages"),
    ("KVM_GET_DIRTY_LOG", EFAULT, "more pages"),
    ("KVM_CLEAR_DIRTY_LOG", ENOENT, "logs dirty pages"),
    ("KVM_ENABLE_CAP", EINVAL, "does not have the capability"),
    ("KVM_SET_CPUID2", EINVAL, "before the vCPU first runs"),
    ("KVM_KVMCLOCK_CTRL", EINVAL, "clock page"),
    ("mmap", ENOMEM, "ulimit -v"),
  ])
  func `a failure with a known cause carries its remedy`(
    request: String, number: Int32, remedy: String
  ) throws {
    #expect(try #require(KVMError(request: request, errno: number).remedy).contains(remedy))
  }
}

@Suite struct OpeningTests {
  @Test func `a device that is missing says how to get KVM`() throws {
    let error = try #require(throws: KVMError.self) {
      _ = try KVMSystem(path: "/dev/kvm-that-is-not-there")
    }
    #expect(error.request == "open /dev/kvm-that-is-not-there")
    #expect(error.errnoName == "ENOENT")
    let remedy = try #require(error.remedy)
    #expect(remedy.contains("kvm_intel or kvm_amd"))
    #expect(remedy.contains("nested"))
  }

  @Test(arguments: ["/dev/null", "/proc/self/comm"])
  func `a file that is not KVM's device says so`(path: String) throws {
    let error = try #require(throws: KVMError.self) { _ = try KVMSystem(path: path) }
    #expect(error.request == "KVM_GET_API_VERSION")
    #expect(error.errnoName == "ENOTTY")
    #expect(try #require(error.remedy).contains("\(path) isn't KVM's device"))
  }

  @Test func `a regular file says that it is not KVM's device`() throws {
    let path = "/tmp/kvm-tests-\(getpid())"
    let file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0o600)
    try #require(file >= 0)
    defer { unlink(path) }
    close(file)
    let error = try #require(throws: KVMError.self) { _ = try KVMSystem(path: path) }
    #expect(error.request == "KVM_GET_API_VERSION")
    #expect(try #require(error.remedy).contains("isn't KVM's device"))
  }

  @Test func `a directory says that it is not KVM's device`() throws {
    let error = try #require(throws: KVMError.self) { _ = try KVMSystem(path: "/") }
    #expect(error.request == "open /")
    #expect(try #require(error.remedy).contains("isn't KVM's device"))
  }

  @Test(arguments: [EACCES, EPERM])
  func `a device that may not be opened names the group and root`(number: Int32) throws {
    let remedy = try #require(Remedy.ofOpening(path: "/dev/kvm", errno: number))
    #expect(remedy.contains("group that owns /dev/kvm"))
    #expect(remedy.contains("run as root"))
  }

  @Test func `another version of the API is refused by its number`() throws {
    try KVMSystem.checkVersion(12, path: "/dev/kvm")
    let error = try #require(throws: KVMError.self) {
      try KVMSystem.checkVersion(13, path: "/dev/kvm")
    }
    #expect(error.request == "KVM_GET_API_VERSION")
    #expect(try #require(error.remedy).contains("version 13"))
  }
}
