@echo off
rem Installs or updates the bot on a box with the ssh, scp and certutil that Windows 10 and 11 have;
rem scripts/deploy does the same elsewhere, with the same commands on the box.
rem Usage: scripts\deploy.bat root@BOX    (needs bot-kjp and bot-kjp.sha256, downloaded into the same folder
rem from the page of the releases, or dist\bot-kjp as cross/build makes it)
setlocal EnableExtensions DisableDelayedExpansion
set "BOX=%~1"
if "%BOX%"=="" goto usage
if not "%~2"=="" goto usage
if "%BOX:~0,1%"=="-" goto usage
set "DIST=%~dp0..\dist"
if exist "%~dp0bot-kjp" set "DIST=%~dp0."
if exist "%~dp0bot-kjp-armv7" set "DIST=%~dp0."
set "FOUND=%TEMP%\bot-kjp-%RANDOM%.txt"

where ssh >nul 2>nul
if errorlevel 1 (
    echo X ssh tidak ada. Pasang "OpenSSH Client": Settings, Apps, Optional features.
    exit /b 69
)

echo Memeriksa %BOX% ...
ssh -o ConnectTimeout=60 "%BOX%" "rm -f bot-kjp.new; uname -m; df -Pk . | tail -n 1; sha256sum /usr/local/bin/bot-kjp 2>/dev/null || echo none; /usr/local/bin/bot-kjp --version 2>/dev/null || echo none" >"%FOUND%"
if errorlevel 1 (
    del "%FOUND%" 2>nul
    echo X Tidak dapat masuk ke %BOX% dengan ssh.
    exit /b 69
)
set "MACHINE="
set "FREE="
set "INSTALLED="
set "VERSION="
for /f "usebackq tokens=1,2,4" %%a in ("%FOUND%") do call :line %%a %%b %%c
del "%FOUND%" 2>nul

rem In a block in brackets only the name is said: a folder may have brackets in its own, as a second download has.
set "NAME="
if "%MACHINE%"=="aarch64" set "NAME=bot-kjp"
if "%MACHINE%"=="armv7l" set "NAME=bot-kjp-armv7"
if "%MACHINE%"=="armv8l" set "NAME=bot-kjp-armv7"
set "FILE=%DIST%\%NAME%"
if "%NAME%"=="" (
    echo X Perangkat ini ^(%MACHINE%^) tidak didukung; perlu aarch64 atau armv7l.
    exit /b 64
)
if not exist "%FILE%" (
    echo X %NAME% tidak ada. Unduh dari halaman Releases ke folder yang sama dengan deploy.bat.
    exit /b 66
)

rem certutil prints the sum in its second line; older ones put spaces into it.
set "SUM="
for /f "skip=1 delims=" %%s in ('certutil -hashfile "%FILE%" SHA256') do if not defined SUM set "SUM=%%s"
set "SUM=%SUM: =%"
set "EXPECTED="
if exist "%FILE%.sha256" for /f "usebackq tokens=1" %%s in ("%FILE%.sha256") do if not defined EXPECTED set "EXPECTED=%%s"
if defined EXPECTED if /i not "%EXPECTED%"=="%SUM%" (
    echo X %NAME% rusak: SHA-256 tidak cocok dengan %NAME%.sha256. Unduh lagi.
    exit /b 65
)
if not defined EXPECTED echo Peringatan: %NAME%.sha256 tidak ada, keutuhan unduhan tidak diperiksa.
set /a FREE_MB=FREE/1024
echo Perangkat: %MACHINE%, ruang kosong %FREE_MB% MB, terpasang: %VERSION%

if /i "%INSTALLED%"=="%SUM%" (
    echo Berkas yang sama sudah ada di perangkat; tidak disalin lagi.
    ssh "%BOX%" "/usr/local/bin/bot-kjp install"
    goto end
)

rem Twice the file, and what install wants to be left.
for %%f in ("%FILE%") do set /a NEEDED=%%~zf*2/1024+40960
set /a NEEDED_MB=NEEDED/1024
if %FREE% LSS %NEEDED% (
    echo X Ruang kosong kurang: perlu %NEEDED_MB% MB, ada %FREE_MB% MB.
    exit /b 73
)

rem scp needs sftp on the box, which dropbear does not bring; cat is everywhere. See scripts/deploy.
echo Menyalin %FILE% ...
scp -q "%FILE%" "%BOX%:bot-kjp.new"
if not errorlevel 1 goto install
echo scp tidak berhasil (perangkat tanpa sftp?). Menyalin dengan cara kedua ...
ssh "%BOX%" "cat >bot-kjp.new && echo '%SUM%  bot-kjp.new' | sha256sum -c - >/dev/null || { rm -f bot-kjp.new; exit 1; }" <"%FILE%"
if errorlevel 1 (
    echo X Penyalinan gagal. Tidak ada yang diubah di perangkat.
    exit /b 1
)
:install
echo Memasang ...
ssh "%BOX%" "echo '%SUM%  bot-kjp.new' | sha256sum -c - && chmod 755 bot-kjp.new && ./bot-kjp.new install; code=$?; rm -f bot-kjp.new; exit $code"
:end
exit /b %ERRORLEVEL%

rem The lines of the answer, in their order: machine; a disk with its free space; sum or none; version.
:line
if not defined MACHINE (
    set "MACHINE=%~1"
    exit /b
)
if not defined FREE (
    set "FREE=%~3"
    exit /b
)
if not defined INSTALLED (
    set "INSTALLED=%~1"
    exit /b
)
if not defined VERSION set "VERSION=%~1 %~2"
exit /b

:usage
echo pemakaian: deploy.bat root@ALAMAT
exit /b 64
