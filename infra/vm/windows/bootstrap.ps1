<#
.SYNOPSIS
First boot of a Windows node: from a bare Windows Server to an enrolled agent that runs as a service.

.DESCRIPTION
Problem: the Custom Script extension runs this once, the network may not be there yet, and the VM may be reset at any
moment.
Guarantee: running it again at any time continues where it stopped; on an enrolled node it changes nothing that is as it
should be. Whatever is downloaded (Python, pip, WinFsp, the agent's wheel) is used only if its SHA-256 is the one in the
settings; none has a default. A data disk that has a partition is never formatted. The enrolment token travels in a
header and in a file that only SYSTEM and the administrators may read, and that file is deleted after enrolment; it is
never written to the log. The settings themselves come in the extension's protected settings.
Limits: written without a Windows machine at hand, checked by a grammar of PowerShell and by tests over its syntax tree;
see docs/windows.md. Needs Windows PowerShell 5.1 (Windows Server 2022 and 2025 have it) and an elevated account.

.PARAMETER Settings
A JSON document as UTF-8 in base64: cluster, node, controlPlaneUrl, enrolmentToken, wheelName, wheelSha256, pythonUrl,
pythonSha256, pipUrl, pipSha256, winfspUrl, winfspSha256, dataDiskLun, dataDriveLetter, subnet, adminAddresses (list),
servicePorts (list of tcp/8080 and the like), and optionally proxyUrl with noProxy (list of hosts reached directly).
#>
#Requires -Version 5.1
#Requires -RunAsAdministrator
[CmdletBinding()]
param(
    [Parameter(Mandatory = $true)]
    [ValidateNotNullOrEmpty()]
    [string] $Settings
)

Set-StrictMode -Version 3.0
$ErrorActionPreference = 'Stop'
# A progress bar makes downloads many times slower in Windows PowerShell.
$ProgressPreference = 'SilentlyContinue'
[Net.ServicePointManager]::SecurityProtocol = [Net.SecurityProtocolType]::Tls12

$ServiceName = 'mirrorplane-agent'
$Home_ = Join-Path $env:ProgramData 'Mirrorplane'
$StateDirectory = Join-Path $Home_ 'state'
$PythonDirectory = Join-Path $env:ProgramFiles 'Mirrorplane\python'
$Downloads = Join-Path $Home_ 'downloads'
$BootstrapFile = Join-Path $StateDirectory 'bootstrap.json'
$AgentFile = Join-Path $Home_ 'config\agent.json'
$DeadlineSeconds = 1800
$LongestDelaySeconds = 30
$Needed = @(
    'cluster', 'node', 'controlPlaneUrl', 'enrolmentToken', 'wheelName', 'wheelSha256', 'pythonUrl', 'pythonSha256',
    'pipUrl', 'pipSha256', 'winfspUrl', 'winfspSha256', 'dataDiskLun', 'dataDriveLetter', 'subnet', 'adminAddresses',
    'servicePorts'
)
$Started = [DateTime]::UtcNow

function Write-Step {
    param([string] $Message)
    Write-Output ('{0:u} mirrorplane bootstrap: {1}' -f [DateTime]::UtcNow, $Message)
}

function Read-Settings {
    param([string] $Encoded)
    $text = [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($Encoded))
    $read = ConvertFrom-Json -InputObject $text
    foreach ($name in $Needed) {
        if ($null -eq $read.PSObject.Properties[$name]) {
            throw "the settings lack $name; replace the VM"
        }
    }
    foreach ($name in @('controlPlaneUrl', 'pythonUrl', 'pipUrl', 'winfspUrl')) {
        if (([Uri] $read.$name).Scheme -ne 'https') {
            throw "$name is not https; replace the VM"
        }
    }
    if ($read.wheelName -notmatch '^[A-Za-z0-9_.+-]+\.whl$') {
        throw 'wheelName is no name of a wheel; replace the VM'
    }
    if ($read.dataDriveLetter -notmatch '^[D-Z]$') {
        throw 'dataDriveLetter is no letter from D to Z; replace the VM'
    }
    return $read
}

function Invoke-Native {
    # A program that is not PowerShell's: its exit code is its word.
    param([string] $Program, [string[]] $Arguments, [int[]] $Good = @(0))
    & $Program @Arguments | Out-Host
    if ($Good -notcontains $LASTEXITCODE) {
        throw "$Program ended with exit code $LASTEXITCODE"
    }
}

function Protect-Directory {
    # SYSTEM and the administrators, nobody else; nothing comes from above. The agent relies on it (platform/windows.py).
    param([string] $Path)
    New-Item -ItemType Directory -Force -Path $Path | Out-Null
    Invoke-Native 'icacls.exe' @(
        $Path, '/inheritance:r', '/grant:r', '*S-1-5-18:(OI)(CI)F', '/grant:r', '*S-1-5-32-544:(OI)(CI)F', '/q'
    )
}

function Test-Sha256 {
    param([string] $Path, [string] $Wanted)
    return (Test-Path -LiteralPath $Path) -and
        ((Get-FileHash -LiteralPath $Path -Algorithm SHA256).Hash -eq $Wanted)
}

function Save-Verified {
    # The bytes with the announced SHA-256, or nothing. A redirect would carry the token to another address.
    param([string] $Url, [string] $Path, [string] $Sha256, [hashtable] $Headers = @{}, [int] $Redirects = 5)
    if (Test-Sha256 $Path $Sha256) {
        return
    }
    $partial = "$Path.partial"
    $delay = 1
    while ($true) {
        try {
            $request = @{
                Uri                = $Url
                OutFile            = $partial
                Headers            = $Headers
                MaximumRedirection = $Redirects
                UseBasicParsing    = $true
                TimeoutSec         = 300
            }
            if ($script:Proxy) {
                $request['Proxy'] = $script:Proxy
            }
            Invoke-WebRequest @request
            break
        }
        catch {
            if (([DateTime]::UtcNow - $Started).TotalSeconds -gt $DeadlineSeconds) {
                throw "$Url cannot be fetched: $($_.Exception.Message)"
            }
            Write-Step "$Url is not there yet ($($_.Exception.Message)); again in $delay s"
            Start-Sleep -Seconds $delay
            $delay = [Math]::Min(2 * $delay, $LongestDelaySeconds)
        }
    }
    if (-not (Test-Sha256 $partial $Sha256)) {
        Remove-Item -LiteralPath $partial -Force
        throw "what $Url answers does not have the SHA-256 $Sha256; it is not used"
    }
    Move-Item -LiteralPath $partial -Destination $Path -Force
}

function Initialize-DataDisk {
    # By the LUN of the attached disk, as Windows tells it in the disk's location. Only a disk without a partition table
    # is initialised, and only a partition made here is formatted: a replaced VM gets its old disk back, full of data.
    param([int] $Lun, [string] $Letter)
    $disk = Get-Disk | Where-Object { $_.Location -match ('LUN {0}$' -f $Lun) -and -not $_.IsBoot -and -not $_.IsSystem }
    if (@($disk).Count -ne 1) {
        throw "there are $(@($disk).Count) data disks with LUN $Lun; attach exactly one"
    }
    if ($disk.IsOffline) {
        Set-Disk -Number $disk.Number -IsOffline $false
    }
    if ($disk.IsReadOnly) {
        Set-Disk -Number $disk.Number -IsReadOnly $false
    }
    if ($disk.PartitionStyle -eq 'RAW') {
        Initialize-Disk -Number $disk.Number -PartitionStyle GPT
        $made = New-Partition -DiskNumber $disk.Number -UseMaximumSize -DriveLetter $Letter
        Format-Volume -Partition $made -FileSystem NTFS -NewFileSystemLabel 'mirrorplane' -Confirm:$false | Out-Null
        return
    }
    $there = @(Get-Partition -DiskNumber $disk.Number | Where-Object { $_.Type -eq 'Basic' })
    if ($there.Count -ne 1) {
        throw "the data disk has $($there.Count) partitions for data; it is left as it is, give the node another one"
    }
    if ($there[0].DriveLetter -ne $Letter) {
        Set-Partition -DiskNumber $disk.Number -PartitionNumber $there[0].PartitionNumber -NewDriveLetter $Letter
    }
}

function Install-WinFsp {
    param([object] $Given)
    if (Test-Path -LiteralPath 'HKLM:\SOFTWARE\WOW6432Node\WinFsp') {
        return
    }
    $installer = Join-Path $Downloads 'winfsp.msi'
    Save-Verified $Given.winfspUrl $installer $Given.winfspSha256
    # 3010: done, and wants a restart that WinFsp 2 does not need.
    $done = Start-Process 'msiexec.exe' -Wait -PassThru -ArgumentList @(
        '/i', "`"$installer`"", '/qn', '/norestart', 'INSTALLLEVEL=1000'
    )
    if (@(0, 3010) -notcontains $done.ExitCode) {
        throw "the installation of WinFsp ended with exit code $($done.ExitCode)"
    }
}

function Install-Python {
    # The embeddable package: nothing of it is shared with other programs, and nothing else updates it.
    param([object] $Given)
    $marker = Join-Path $PythonDirectory 'installed.sha256'
    if ((Test-Path -LiteralPath $marker) -and ((Get-Content -LiteralPath $marker -Raw).Trim() -eq $Given.pythonSha256)) {
        return
    }
    $archive = Join-Path $Downloads 'python.zip'
    Save-Verified $Given.pythonUrl $archive $Given.pythonSha256
    New-Item -ItemType Directory -Force -Path $PythonDirectory | Out-Null
    Expand-Archive -LiteralPath $archive -DestinationPath $PythonDirectory -Force
    # Without "import site" the embeddable package ignores what pip installs.
    foreach ($paths in Get-ChildItem -LiteralPath $PythonDirectory -Filter 'python3*._pth') {
        $lines = Get-Content -LiteralPath $paths.FullName | ForEach-Object { $_ -replace '^#\s*import site$', 'import site' }
        Set-Content -LiteralPath $paths.FullName -Value $lines -Encoding ASCII
    }
    Set-Content -LiteralPath $marker -Value $Given.pythonSha256 -Encoding ASCII
}

function Install-Agent {
    param([object] $Given)
    $python = Join-Path $PythonDirectory 'python.exe'
    $marker = Join-Path $PythonDirectory 'agent.sha256'
    if ((Test-Path -LiteralPath $marker) -and (Test-Path -LiteralPath $AgentFile)) {
        # Enrolled: its agent may be serving, and is not exchanged under its feet.
        return
    }
    if ((Test-Path -LiteralPath $marker) -and ((Get-Content -LiteralPath $marker -Raw).Trim() -eq $Given.wheelSha256)) {
        return
    }
    $pip = Join-Path $Downloads ([IO.Path]::GetFileName(([Uri] $Given.pipUrl).AbsolutePath))
    Save-Verified $Given.pipUrl $pip $Given.pipSha256
    $wheel = Join-Path $Downloads $Given.wheelName
    $url = $Given.controlPlaneUrl.TrimEnd('/') + '/api/nodes/agent-wheel'
    Save-Verified $url $wheel $Given.wheelSha256 @{ Authorization = "Bearer $($Given.enrolmentToken)" } 0
    # pip runs out of its own wheel: the embeddable package has none.
    # With the library through which the mirror's front speaks to WinFsp.
    $wanted = "$($wheel)[fuse-library]"
    Invoke-Native $python @((Join-Path $pip 'pip'), 'install', '--no-input', '--disable-pip-version-check', $wanted)
    Set-Content -LiteralPath $marker -Value $Given.wheelSha256 -Encoding ASCII
}

function Set-Firewall {
    # The network security group is the fence of the cluster; this one opens the same and no more.
    param([object] $Given)
    $balancer = '168.63.129.16'
    $rules = @(
        @{ Name = 'probe'; Port = 9010; From = @($balancer, $Given.subnet) },
        @{ Name = 'console'; Port = 9453; From = @($Given.subnet) + @($Given.adminAddresses) },
        @{ Name = 'heartbeat'; Port = 8888; From = @($Given.subnet) },
        @{ Name = 'mirror'; Port = 5600; From = @($Given.subnet) }
    )
    foreach ($rule in $rules) {
        Set-Rule $rule.Name 'TCP' $rule.Port $rule.From
    }
    foreach ($service in $Given.servicePorts) {
        $protocol, $port = $service -split '/', 2
        # The load balancer passes clients' addresses on.
        Set-Rule "service-$protocol-$port" $protocol.ToUpperInvariant() ([int] $port) @('Any')
    }
}

function Set-Rule {
    param([string] $Name, [string] $Protocol, [int] $Port, [string[]] $From)
    $id = "mirrorplane-$Name"
    $wanted = @{ Direction = 'Inbound'; Action = 'Allow'; Protocol = $Protocol; LocalPort = $Port; RemoteAddress = $From }
    if (Get-NetFirewallRule -Name $id -ErrorAction SilentlyContinue) {
        Remove-NetFirewallRule -Name $id
    }
    New-NetFirewallRule -Name $id -DisplayName "Mirrorplane $Name" -Group 'Mirrorplane' @wanted | Out-Null
}

function Register-Agent {
    param([string[]] $Environment)
    if (-not (Get-Service -Name $ServiceName -ErrorAction SilentlyContinue)) {
        $python = Join-Path $PythonDirectory 'python.exe'
        New-Service -Name $ServiceName -DisplayName 'Mirrorplane node agent' -StartupType Automatic `
            -BinaryPathName "`"$python`" -m mirror_agent.platform.windows_service" | Out-Null
    }
    # What a service finds in its environment beside the machine's.
    $key = "HKLM:\SYSTEM\CurrentControlSet\Services\$ServiceName"
    New-ItemProperty -LiteralPath $key -Name 'Environment' -PropertyType MultiString -Value $Environment -Force | Out-Null
    # Started again after an end by itself, also one with an exit code; the count is forgotten after an hour.
    Invoke-Native 'sc.exe' @('failure', $ServiceName, 'reset=', '3600', 'actions=', 'restart/1000/restart/5000/restart/30000')
    Invoke-Native 'sc.exe' @('failureflag', $ServiceName, '1')
}

function Register-Node {
    # Enrolment deletes nothing by itself: the token's file goes when the agent's file is there.
    param([object] $Given)
    if (-not (Test-Path -LiteralPath $AgentFile)) {
        $words = @{
            controlPlaneUrl = $Given.controlPlaneUrl
            enrolmentToken  = $Given.enrolmentToken
            cluster         = $Given.cluster
            node            = $Given.node
        }
        # No byte order mark: Set-Content of Windows PowerShell would write one with UTF8.
        [IO.File]::WriteAllText($BootstrapFile, (ConvertTo-Json $words), (New-Object Text.UTF8Encoding $false))
        $mirrorctl = Join-Path $PythonDirectory 'Scripts\mirrorctl.exe'
        Invoke-Native $mirrorctl @('enrol', '--from', $BootstrapFile)
    }
    if (Test-Path -LiteralPath $BootstrapFile) {
        Remove-Item -LiteralPath $BootstrapFile -Force
    }
}

try {
    $given = Read-Settings $Settings
    $script:Proxy = if ($given.PSObject.Properties['proxyUrl']) { $given.proxyUrl } else { $null }
    $environment = @('PYTHONUTF8=1')
    if ($script:Proxy) {
        $direct = if ($given.PSObject.Properties['noProxy']) { @($given.noProxy) -join ',' } else { '' }
        $env:HTTPS_PROXY = $script:Proxy
        $env:NO_PROXY = $direct
        $environment += @("HTTPS_PROXY=$($script:Proxy)", "HTTP_PROXY=$($script:Proxy)", "NO_PROXY=$direct")
    }
    Write-Step "node $($given.node) of cluster $($given.cluster)"
    foreach ($directory in @($Home_, $StateDirectory, $Downloads)) {
        Protect-Directory $directory
    }
    Initialize-DataDisk ([int] $given.dataDiskLun) $given.dataDriveLetter
    Install-WinFsp $given
    Install-Python $given
    Install-Agent $given
    Set-Firewall $given
    Register-Agent $environment
    Register-Node $given
    Start-Service -Name $ServiceName
    Write-Step 'done'
    exit 0
}
catch {
    Write-Step "failed: $($_.Exception.Message) (line $($_.InvocationInfo.ScriptLineNumber))"
    exit 1
}
